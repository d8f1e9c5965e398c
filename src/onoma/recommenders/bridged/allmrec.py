"""A frozen language model that is told who asks and what items are, in words and in vectors."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Ragged, Split
from onoma.language.tokentree import weigh
from onoma.neural.device import device
from onoma.neural.softrow import SoftRow
from onoma.neural.trainer import Task, Trainer, TrainSettings
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.bridged.soft import (
    Pieces,
    SoftModule,
    SoftRecommender,
    SoftSettings,
    mlp,
)
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.transformer import TransformerSettings

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

Phase = Literal["align", "tell"]
WHO = " is a user representation."
HAS = " This user has {did}:"
NOTHING = " This user has {did} nothing yet."
ASK = " Recommend one next {one} from these titles:"
ANSWER = "\nThe recommendation:"
END = "\n"
_TRAINED: dict[Phase, tuple[str, ...]] = {
    "align": ("item_in", "item_out", "text_in", "text_out"),
    "tell": ("user_bridge", "item_bridge"),
}
_KEPT = 20_000  # questions whose answers are kept
_ALIGN = TrainSettings(epochs=10, lr=1e-3, valid_every=2, patience=3)


class ALLMRecSettings(SoftSettings):
    """The two stages, and what is asked.

    Attributes:
        encoder: what turns item texts into vectors; anything ``encoding.build`` takes.
        joint: dimensions of the vectors that items and their texts share.
        align: the schedule of the first stage.
        pairs: users a step of the first stage.
        against: items drawn for each target there.
        matching: weight of how far items are from their texts there.
        items: weight of how well items come back out of the shared vectors.
        texts: the same of texts.
        cold: items with at most so many interactions in training are known by their texts alone.
        soft: whether vectors are told at all; without them the language model reads titles, and
            there is no second stage.
        negatives: candidates beside the target in the second stage.
        shortlist: candidates that are told at most; the others follow.
        normalise: a title's log-likelihood: the mean of its tokens, or their ``sum``.
    """

    encoder: Any = "sentence"
    joint: int = Field(default=128, ge=1)
    align: TrainSettings = _ALIGN
    pairs: int = Field(default=32, ge=1)
    against: int = Field(default=1, ge=1)
    matching: float = Field(default=1.0, ge=0)
    items: float = Field(default=0.5, ge=0)
    texts: float = Field(default=0.2, ge=0)
    cold: int = Field(default=0, ge=0)
    soft: bool = True
    batch: int = Field(default=4, ge=1)
    negatives: int = Field(default=19, ge=1)
    shortlist: int = Field(default=20, ge=2)
    checked: int = Field(default=100, ge=1)
    normalise: Literal["token", "sum"] = "token"


class ALLMRecModule(SoftModule):
    """The autoencoder of the first stage and the two bridges of the second.

    Attributes:
        content: float32[n_items, D], text vectors of mean square 1, frozen.
        warm: bool[n_items], whose ids are trusted.
        mix: float32[], weight of the first stage's scores in the mode ``mixed``.
    """

    settings: ALLMRecSettings
    content: Tensor
    warm: Tensor
    mix: Tensor

    def __init__(
        self,
        model: TorchModel,
        titles: Sequence[str],
        ids: Tensor,
        content: Tensor,
        warm: Tensor,
        settings: ALLMRecSettings,
    ) -> None:
        super().__init__(model, titles, ids, settings)
        d, wide, h, joint = ids.shape[1], content.shape[1], self.width, settings.joint
        self.register_buffer("content", content)
        self.register_buffer("warm", warm)
        self.register_buffer("mix", torch.zeros(()))
        self.item_in = nn.Sequential(nn.Linear(d, joint), nn.Sigmoid())
        self.item_out = nn.Linear(joint, d)
        self.text_in = nn.Sequential(nn.Linear(wide, joint), nn.Sigmoid())
        self.text_out = nn.Linear(joint, wide)
        self.user_bridge = mlp((d, h, h), (nn.LayerNorm(h), nn.LeakyReLU()))
        self.item_bridge = mlp((joint, h, h), (nn.GELU(),))
        self.end = self.composer.tokens(END)

    def begin(self, phase: Phase) -> None:
        """Go on to a stage: what the others train stays as it is."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in _TRAINED[phase])
            parameter.grad = None  # else the next stage's gradients are clipped with the last ones

    def meet(self) -> None:
        """Let the second stage begin with vectors as large as words."""
        # The directions of states are those of items, as far as sizes go.
        self.like_words(self.user_bridge, self.ids)
        every = torch.arange(self.n_items, device=self.ids.device)
        self.like_words(self.item_bridge, self.joined(every))

    def joined(self, items: Tensor) -> Tensor:
        """float32[..., joint], what int64[...] items share with their texts; of cold ones theirs.

        The two are alike after the first stage.
        """
        warm = self.warm[items][..., None]
        return torch.where(warm, self.item_in(self.ids[items]), self.text_in(self.content[items]))

    def prompt(self, history: Sequence[int], pool: Sequence[int]) -> tuple[Pieces, list[int]]:
        """The question, and who stands in its places for vectors: -1 the user, else an item."""
        soft = self.settings.soft
        pieces, codes = list(self.start), [-1] if soft else []
        pieces += [None, *self.tokens(WHO)] if soft else []
        for items, before in ((history, HAS if len(history) else NOTHING), (pool, ASK)):
            pieces += self.tokens(before)
            for place, item in enumerate(items):
                pieces += [*(self.tokens(";") if place else ()), *self.titles[item]]
                if soft:
                    pieces.append(None)
                    codes.append(item)
        return [*pieces, *self.tokens(ANSWER)], codes

    def answer(self, item: int) -> list[int]:
        """The tokens of a title and of its end, so that none is the beginning of another."""
        return [*self.titles[item], *self.end]

    def told(self, codes: Sequence[Sequence[int]], states: Tensor) -> Tensor | None:
        """float32[m, width], the vectors of n prompts in reading order; None where none is told.

        Args:
            codes: of each prompt.
            states: float32[n, d] of the users.
        """
        if not self.settings.soft:
            return None
        flat = torch.tensor([code for row in codes for code in row], device=self.ids.device)
        rows = torch.repeat_interleave(torch.tensor([len(row) for row in codes])).to(flat.device)
        items = self.item_bridge(self.joined(flat.clamp(min=0)))
        return torch.where((flat < 0)[:, None], self.user_bridge(states.to(items))[rows], items)

    @torch.no_grad()
    def weigh(
        self, history: Sequence[int], pool: Sequence[int], state: Tensor
    ) -> NDArray[np.float64]:
        """float64[c], log-likelihoods of the titles of c candidates as the answer.

        The question is read once, and so are beginnings that titles share.

        Args:
            history: items that are told.
            pool: c items in the order in which they are told.
            state: float32[d] of the user.
        """
        pieces, codes = self.prompt(history, pool)
        row = SoftRow(self.lm)  # one a question: several may be answered at a time
        prompts = self.composer.compose([pieces])
        row.place(self._inputs(prompts, self.told([codes], state[None]))[0])
        answers = [self.answer(item) for item in pool]
        found = weigh(row, answers, [0] * len(answers))
        return found / [len(a) for a in answers] if self.settings.normalise == "token" else found


class ALLMRec(SoftRecommender):
    """A-LLMRec (S105): a frozen recommender and a frozen language model, aligned by small bridges.

    Kim et al., KDD 2024. A SASRec is fitted first. Then an autoencoder learns vectors that items
    share with their texts and out of which the SASRec still recommends; an item that nobody took
    goes by its text. Last, two bridges bring the user's state and these vectors among the words of
    a prompt: the user first, then each title of the history and of the candidates with its vector
    behind it; they learn from the likelihood of the target's title, among candidates that are drawn
    anew for each epoch, in an order that is drawn too. Neither the SASRec nor the language model
    changes.

    It ranks candidates, or the first stage's ``shortlist`` of the catalogue, by the likelihood of
    their titles. In the mode ``mixed`` the first stage's score counts too, with a weight chosen on
    validation; ``joint`` is that score alone.

    We depart from it where the text encoder is frozen, so that its vectors cannot go stale, a place
    of each history is drawn anew for each epoch, the bridges begin with vectors as large as words,
    and candidates are weighed, not generated.

    Args:
        train: the schedule of the second stage; ``batch_tokens`` is not used, ``batch`` is.
        seed: of everything random.
        folder: where checkpoints and logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`ALLMRecSettings`.
    """

    name = "a-llmrec"
    modes = ("rank", "mixed", "joint")
    settings_type = ALLMRecSettings
    settings: ALLMRecSettings
    module: ALLMRecModule
    reads = frozenset({"history", "candidates"})
    batch = 64

    def _build(self, split: Split) -> ALLMRecModule:
        began = time.monotonic()
        content = encoding.cached(encoding.build(self.settings.encoder), split)
        self.seconds["encode"] = time.monotonic() - began
        warm = torch.from_numpy(split.train_counts > self.settings.cold)
        wide = torch.from_numpy(content * content.shape[1] ** 0.5)  # rows of unit length
        titles = self.titles(split.dataset)
        return ALLMRecModule(self.source, titles, self.item_ids(), wide, warm, self.settings)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> ALLMRecModule:
        self.sequence = SASRec.load(folder / "sequence", dataset)
        ids, content = (
            torch.zeros(dataset.n_items, weights[name].shape[1]) for name in ("ids", "content")
        )
        warm = torch.zeros(dataset.n_items, dtype=torch.bool)
        titles = self.titles(dataset)
        return ALLMRecModule(self.source, titles, ids, content, warm, self.settings)

    def save(self, folder: str | Path) -> None:
        """Write the bridges, and the SASRec beside them; the language model stays where it is."""
        super().save(folder)
        self.sequence.save(Path(folder) / "sequence")

    def _task(self, split: Split) -> Task:
        from onoma.recommenders.bridged.stages import Telling

        return Telling(self, split)

    def learn(self, split: Split) -> None:
        """Align, then tell."""
        from onoma.recommenders.bridged.stages import Aligning, Telling

        torch.manual_seed(self.seed)
        self.forget()
        self.module = self._build(split).to(device())
        self.module.begin("align")
        beside = self.folder and self.folder / "align"
        first = Trainer(self.settings.align, self.seed, beside, self.quiet)
        aligned = first.fit(self.module, self.module.noise, Aligning(self, split))
        self.module.begin("tell")
        self.module.meet()
        self.forget()
        task = Telling(self, split)
        self.training, history = {"epochs": 0, "seconds": 0.0}, []
        if self.settings.soft:
            second = Trainer(self.train, self.seed, self.folder, self.quiet)
            self.training = second.fit(self.module, self.module.noise, task)
            history = second.history
        else:
            self.training["valid_hit@1"] = task.validate()
        self.seconds["train"] = aligned["seconds"] + self.training["seconds"]
        self.training |= {"align": aligned, "mix": float(self.module.mix), "history": history}
        if self.folder is not None:
            (self.folder / "align" / "checkpoint.safetensors").unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Drop answers and what items look like."""
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], NDArray[np.float64]] = {}
        self._items: Tensor | None = None

    @torch.no_grad()
    def joint(self, requests: Requests) -> Tensor:
        """float32[n, n_items], the first stage's scores: states times items out of shared vectors.

        They have the size of the SASRec's own.
        """
        module = self.module
        if module.training:
            module.eval()
        if self._items is None:
            every = torch.arange(module.n_items, device=module.ids.device)
            self._items = module.item_out(module.joined(every))
        states = self.states(requests.history).to(self._items)
        return (states @ self._items.T * self.scale).cpu()

    @property
    def scale(self) -> float:
        """What makes products of states and items of mean square 1 logits."""
        settings = self.sequence.settings
        assert isinstance(settings, TransformerSettings)
        return (settings.scale or settings.width**0.5) / settings.width

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what the first stage's scores multiply."""
        self.joint(Requests(Ragged.empty(1)))
        assert self._items is not None
        vectors: NDArray[np.float32] = self._items.cpu().numpy()
        return vectors

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: places counted from the end, the first is n_items."""
        return self._scores(replace(requests, candidates=None), self.modes[0])

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        scores, forbidden = self._scores(requests, mode), requests.forbidden()
        if requests.candidates is None:
            return top_k(scores, k, forbidden=forbidden)
        items = torch.from_numpy(requests.candidates.astype(np.int64))
        return top_k(scores.gather(1, items.clamp(min=0)), k, forbidden=forbidden, items=items)

    def _scores(self, requests: Requests, mode: str) -> Tensor:
        from scipy.stats import rankdata

        joint = self.joint(requests)
        if mode == "joint":
            return joint
        order = torch.argsort(joint, dim=1, descending=True, stable=True)
        out = torch.empty_like(joint)
        places = -torch.arange(joint.shape[1], dtype=joint.dtype)
        out.scatter_(1, order, places.expand_as(joint))
        mix = float(self.module.mix) if mode == "mixed" else 0.0
        for row, pool, values in self.judged(requests, order.numpy()):
            told = values + mix * joint[row, pool].double().numpy()
            place = rankdata(-told, method="average") - 1
            out[row, pool] = torch.from_numpy(joint.shape[1] - place).to(out.dtype)
        return out

    def judged(
        self, requests: Requests, order: NDArray[np.int64]
    ) -> list[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
        """What the language model says of each request that leaves it anything.

        Args:
            requests: n of them.
            order: int64[n, n_items], the catalogue as the first stage ranks it.

        Returns:
            The row, int64[c] candidates and float64[c] log-likelihoods.
        """
        forbidden = requests.forbidden()
        longest = max(self.settings.history, self.sequence.settings.length)
        states = self.states(requests.history)
        out = []
        for row in range(len(requests)):
            pool = order[row]
            given = None if requests.candidates is None else requests.candidates[row]
            if given is not None:
                pool = pool[np.isin(pool, given)]
            pool = pool[~np.isin(pool, forbidden[row])][: self.settings.shortlist]
            if not len(pool):
                continue
            history = requests.history[row][-longest:].tolist()
            if given is not None and requests.as_told:
                kept = given[np.isin(given, pool)].astype(np.int64)
                pool = kept[np.sort(np.unique(kept, return_index=True)[1])]
            else:
                pool = self._drawn(history, pool)
            key = (tuple(history), tuple(pool.tolist()))
            if key not in self._known:
                if len(self._known) >= _KEPT:
                    self._known = {}
                told = history[-self.settings.history :]
                self._known[key] = self.module.weigh(told, key[1], states[row])
            out.append((row, pool, self._known[key]))
        return out

    def _drawn(self, history: list[int], pool: NDArray[np.int64]) -> NDArray[np.int64]:
        """The candidates in an order that depends on what is asked, never on a batch."""
        pool = np.sort(pool)
        key = f"{self.seed} {history} {pool.tolist()}"
        draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
        return pool[np.random.default_rng(draw).permutation(len(pool))]
