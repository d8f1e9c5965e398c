"""Candidates weighed by a frozen language model that reads titles with vectors behind them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from onoma.language.tokentree import weigh
from onoma.neural.softrow import SoftRow
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.bridged.soft import Pieces, SoftModule, SoftRecommender, SoftSettings
from onoma.recommenders.transformer import TransformerSettings

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

WHO = " is a user representation."
HAS = " This user has {did}:"
NOTHING = " This user has {did} nothing yet."
ASK = " Recommend one next {one} from these titles:"
ANSWER = "\nThe recommendation:"
END = "\n"
_KEPT = 20_000  # questions whose answers are kept


class CandidateSettings(SoftSettings):
    """What is asked.

    Attributes:
        soft: whether vectors are told at all; without them the language model reads titles, and
            nothing around it is trained.
        negatives: candidates beside the target in training.
        shortlist: candidates that are told at most; the others follow.
        normalise: a title's log-likelihood: the mean of its tokens, or their ``sum``.
    """

    soft: bool = True
    batch: int = Field(default=4, ge=1)
    negatives: int = Field(default=19, ge=1)
    shortlist: int = Field(default=20, ge=2)
    checked: int = Field(default=100, ge=1)
    normalise: Literal["token", "sum"] = "token"


class CandidateModule(SoftModule):
    """Questions among candidates, and what stands for users and items in them.

    Attributes:
        slots: vectors that a user, or an item, takes in a question.
        mix: float32[], weight of the sequence model's scores in the mode ``mixed``.
    """

    settings: CandidateSettings
    slots: int = 1
    mix: Tensor

    def __init__(
        self, model: TorchModel, titles: Sequence[str], ids: Tensor, settings: CandidateSettings
    ) -> None:
        super().__init__(model, titles, ids, settings)
        self.register_buffer("mix", torch.zeros(()))
        self.end = self.composer.tokens(END)

    @abstractmethod
    def of_items(self, items: Tensor) -> Tensor:
        """float32[m, slots, width], what stands for int64[m] items."""

    @abstractmethod
    def of_users(self, states: Tensor) -> Tensor:
        """float32[n, slots, width], what stands for users of float32[n, d] states."""

    def prompt(self, history: Sequence[int], pool: Sequence[int]) -> tuple[Pieces, list[int]]:
        """The question, and whose vectors stand in its places: -1 the user, else an item."""
        soft = self.settings.soft
        pieces, codes = list(self.start), [-1] if soft else []
        pieces += [*self.place(), *self.tokens(WHO)] if soft else []
        for items, before in ((history, HAS if len(history) else NOTHING), (pool, ASK)):
            pieces += self.tokens(before)
            for place, item in enumerate(items):
                pieces += [*(self.tokens(";") if place else ()), *self.titles[item]]
                if soft:
                    pieces += self.place()
                    codes.append(item)
        return [*pieces, *self.tokens(ANSWER)], codes

    def place(self) -> Pieces:
        """The places of one user or item."""
        return [None] * self.slots

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
        items = self.of_items(flat.clamp(min=0))
        users = self.of_users(states.to(items))[rows]
        return torch.where((flat < 0)[:, None, None], users, items).flatten(0, 1)

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


class CandidateRecommender(SoftRecommender):
    """Ranks candidates, or a shortlist of the catalogue, by the likelihood of their titles."""

    modes: ClassVar[tuple[str, ...]] = ("rank", "mixed")
    settings: CandidateSettings
    module: CandidateModule
    reads = frozenset({"history", "candidates"})
    batch = 64

    @abstractmethod
    def joint(self, requests: Requests) -> Tensor:
        """float32[n, n_items], scores that make the shortlist without the language model."""

    def save(self, folder: str | Path) -> None:
        """Write what was trained, and the SASRec beside it; the language model stays."""
        super().save(folder)
        self.sequence.save(Path(folder) / "sequence")

    def forget(self) -> None:
        """Drop answers."""
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], NDArray[np.float64]] = {}

    @property
    def scale(self) -> float:
        """What makes products of states and items of mean square 1 logits."""
        settings = self.sequence.settings
        assert isinstance(settings, TransformerSettings)
        return (settings.scale or settings.width**0.5) / settings.width

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
            order: int64[n, n_items], the catalogue as :meth:`joint` ranks it.

        Returns:
            The row, int64[c] candidates and float64[c] log-likelihoods.
        """
        forbidden = requests.forbidden()
        longest = max(self.settings.history, self.sequence.settings.length)
        states = self.states(requests.history)
        out = []
        for row in range(len(requests)):
            history = requests.history[row][-longest:].tolist()
            pool = pooled(
                requests,
                row,
                forbidden[row],
                history,
                order[row],
                self.settings.shortlist,
                self.seed,
            )
            if not len(pool):
                continue
            key = (tuple(history), tuple(pool.tolist()))
            if key not in self._known:
                if len(self._known) >= _KEPT:
                    self._known = {}
                told = history[-self.settings.history :]
                self._known[key] = self.module.weigh(told, key[1], states[row])
            out.append((row, pool, self._known[key]))
        return out


def pooled(
    requests: Requests,
    row: int,
    forbidden: NDArray[np.integer],
    history: list[int],
    order: NDArray[np.int64],
    shortlist: int,
    seed: int,
) -> NDArray[np.int64]:
    """int64[c], what a language model is asked about in one row of the requests.

    Args:
        requests: whose candidates hold, in the order told or in any.
        row: of the requests.
        forbidden: item codes that may not be answered there.
        history: its items that are read.
        order: int64[n_items], the catalogue, best first; the first ``shortlist`` that may be
            answered are taken.
        shortlist: the most that are asked about.
        seed: of their order where none is told; it depends on what is asked, never on a batch.
    """
    given = None if requests.candidates is None else requests.candidates[row]
    pool = order if given is None else order[np.isin(order, given)]
    pool = pool[~np.isin(pool, forbidden)][:shortlist]
    if given is not None and requests.as_told:
        kept = given[np.isin(given, pool)].astype(np.int64)
        return kept[np.sort(np.unique(kept, return_index=True)[1])]
    pool = np.sort(pool)
    key = f"{seed} {history} {pool.tolist()}"
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    return pool[np.random.default_rng(draw).permutation(len(pool))]
