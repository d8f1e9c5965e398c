"""Items are brought among the words of a frozen language model by a few learnt queries."""

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
from pydantic import Field, model_validator
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.encoding.text import FIELDS, item_texts
from onoma.errors import OnomaError
from onoma.neural.device import device
from onoma.neural.qformer import QueryTransformer
from onoma.neural.trainer import Task, Trainer, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.candidates import (
    CandidateModule,
    CandidateRecommender,
    CandidateSettings,
)
from onoma.recommenders.bridged.representing import CALLED, Conversing, ItemLanguage, Representing
from onoma.recommenders.bridged.soft import Pieces, mlp
from onoma.recommenders.sequential.sasrec import SASRec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from onoma.language.torch_model import TorchModel

Phase = Literal["represent", "tell"]
KINDS = ("categories", "genres")
_ROWS = 1024  # items at a time where no gradient is wanted
_REPRESENT = TrainSettings(epochs=10, lr=1e-3, valid_every=2, patience=3)


class ILMSettings(CandidateSettings):
    """The bridge and its two stages.

    Attributes:
        bridge: ``aligned``, a query transformer that has been through the first stage; the
            controls ``fresh``, the same one that has not, ``mlp``, two layers of as many weights,
            and ``linear``.
        queries: vectors that stand for an item.
        width: of the query transformer.
        blocks: of it.
        heads: of it.
        spread: states that an item's vector is expanded to, which the queries look at.
        dropout: of it.
        encoder: what turns item texts into the vectors that begin texts in the first stage;
            anything ``encoding.build`` takes.
        fields: columns of the catalogue that make an item's text there.
        words: tokens of a text there, the first ones.
        joint: dimensions in which items, texts and users are compared there.
        represent: the schedule of the first stage.
        pairs: users, and items with their texts, a step of it.
        contrast: weight of telling an item's text from others by cosines.
        matching: weight of telling whether a text is the item's.
        telling: weight of the words of the text, told by the queries.
        beside: weight of finding what the same user took, from an item.
        taking: the same from the user's state before it, which is read like an item.
        speaking: weight, in the second stage, of what single items are called, of what kind they
            are, and what is taken beside them.
    """

    bridge: Literal["aligned", "fresh", "mlp", "linear"] = "aligned"
    queries: int = Field(default=4, ge=1)
    width: int = Field(default=128, ge=4)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    spread: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    encoder: Any = "sentence"
    fields: tuple[str, ...] = FIELDS
    words: int = Field(default=16, ge=1)
    joint: int = Field(default=64, ge=1)
    represent: TrainSettings = _REPRESENT
    pairs: int = Field(default=64, ge=2)
    contrast: float = Field(default=1.0, ge=0)
    matching: float = Field(default=1.0, ge=0)
    telling: float = Field(default=1.0, ge=0)
    beside: float = Field(default=1.0, ge=0)
    taking: float = Field(default=1.0, ge=0)
    speaking: float = Field(default=0.5, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> ILMSettings:
        if self.width % self.heads:
            raise OnomaError(
                f"width {self.width} is no multiple of {self.heads} heads", where="recipe"
            )
        losses = (self.contrast, self.matching, self.telling, self.beside, self.taking)
        if self.bridge == "aligned" and not any(losses):
            raise OnomaError(
                "an aligned bridge has no loss", where="recipe", fix="Set bridge to fresh"
            )
        return self


class ILMModule(CandidateModule):
    """The bridge from the sequence model's vectors to words, and what its first stage needs.

    Args:
        model: the language model.
        titles: n_items titles.
        kinds: n_items texts of what kind an item is, empty where nobody says.
        ids: float32[n_items, d], of mean square 1.
        settings: of the bridge.

    Attributes:
        former: the query transformer; not of the other bridges.
        language: what the first stage needs, where there is one; set from outside.
        origin: float32[slots, width], what comes out of the bridge on the mean of items at first.
        size: float32[], how much smaller words are than what comes out of it.
        middle: float32[width], the mean of words.
    """

    settings: ILMSettings
    former: QueryTransformer
    language: ItemLanguage
    origin: Tensor
    size: Tensor
    middle: Tensor

    def __init__(
        self,
        model: TorchModel,
        titles: Sequence[str],
        kinds: Sequence[str],
        ids: Tensor,
        settings: ILMSettings,
    ) -> None:
        super().__init__(model, titles, ids, settings)
        s, d, h = settings, ids.shape[1], self.width
        self.slots = s.queries
        read = model.tokenizer([f" {kind}" for kind in kinds], add_special_tokens=False)
        self.kinds = [
            tokens[: s.title] if kind else []
            for kind, tokens in zip(kinds, read.input_ids, strict=True)
        ]
        self.register_buffer("origin", torch.zeros(s.queries, h))
        self.register_buffer("size", torch.ones(()))
        self.register_buffer("middle", torch.zeros(h))
        former = QueryTransformer(
            d, s.width, s.blocks, s.heads, s.queries, s.spread, s.words + 1, s.dropout, self.noise
        )
        adaptor = nn.Linear(s.width, h)
        if s.bridge in ("aligned", "fresh"):
            self.former = former
            self.adaptor: nn.Module = adaptor
        elif s.bridge == "linear":
            self.adaptor = nn.Linear(d, s.queries * h)
        else:
            weights = sum(p.numel() for n, p in former.named_parameters() if not _of_text(n))
            weights += sum(p.numel() for p in adaptor.parameters())
            middle = max(1, round((weights - s.queries * h) / (d + 1 + s.queries * h)))
            self.adaptor = mlp((d, middle, s.queries * h), (nn.GELU(),))

    def begin(self, phase: Phase) -> None:
        """Go on to a stage: what only the other one trains stays as it is."""
        for name, parameter in self.named_parameters():
            part = name.split(".")[0]
            if phase == "represent":
                learns = part in ("former", "language")
            else:
                learns = part == "adaptor" or (part == "former" and not _of_text(name))
            parameter.requires_grad_(learns)
            parameter.grad = None  # else the next stage's gradients are clipped with the last ones

    @torch.no_grad()
    def meet(self) -> None:
        """Let the second stage begin with vectors as large as words, each query's in their middle.

        What all items share of a query's state would else drown what tells them apart.
        """
        self.eval()
        words = self.lm.get_input_embeddings().weight.detach().float().to(self.ids.device)
        raw = torch.cat([self._raw(part) for part in torch.split(self.ids, _ROWS)])
        self.origin.copy_(raw.mean(0))
        spread = (raw - self.origin).square().mean().sqrt().clamp(min=1e-6)
        self.size.copy_(words.std(0).mean() / spread)
        self.middle.copy_(words.mean(0))

    def _raw(self, vectors: Tensor) -> Tensor:
        inside = self.former(vectors) if self.settings.bridge in ("aligned", "fresh") else vectors
        out: Tensor = self.adaptor(inside)
        return out.view(len(vectors), self.slots, self.width)

    def bridged(self, vectors: Tensor) -> Tensor:
        """float32[n, slots, width], what stands among words for float32[n, d] vectors."""
        return (self._raw(vectors).float() - self.origin) * self.size + self.middle

    def of_items(self, items: Tensor) -> Tensor:
        """float32[m, slots, width], what stands for int64[m] items."""
        return self.bridged(self.ids[items])

    def of_users(self, states: Tensor) -> Tensor:
        """float32[n, slots, width]: users of float32[n, d] states are read like items."""
        return self.bridged(states)

    def about(self, words: tuple[str, str]) -> Pieces:
        """A question about one item, which stands between the words."""
        first, second = words
        return [*self.start, *self.tokens(first), *self.place(), *self.tokens(second)]

    @torch.no_grad()
    def called(self, items: Tensor, shown: Tensor) -> float:
        """Mean cross-entropy of the tokens of titles, told by vectors alone.

        Args:
            items: int64[m] whose titles are told.
            shown: int64[m] whose vectors are.
        """
        prompts = self.composer.compose(
            [self.about(CALLED)] * len(items), [self.answer(item) for item in items.tolist()]
        )
        return float(self.answer_loss(prompts, self.of_items(shown).flatten(0, 1)))


class ILM(CandidateRecommender):
    """ILM (S074): an item-language model, read by a frozen language model.

    Yang et al., "Item-Language Model for Conversational Recommendation", 2024. A few learnt queries
    look at an item's collaborative vector, in blocks whose self-attention they share with texts.
    First they learn to be read: items are told from each other by their texts, whether a text is an
    item's, the text itself is told, and items are drawn to those that the same users took, users to
    what they took, being read like items. Then a linear adaptor brings their states among the words
    of a prompt, and queries and adaptor learn from the likelihood of what is to be said: the next
    title among candidates that are told, what an item is called, what kind it is of, what is taken
    beside it. The language model never changes.

    It ranks candidates, or the sequence model's ``shortlist`` of the catalogue, by the likelihood
    of their titles; in the mode ``mixed`` the sequence model's score counts too, with a weight
    chosen on validation.

    We depart from it where a SASRec gives the vectors of items and users, in place of a
    factorisation; where a text begins with the vector of a frozen sentence encoder, in place of
    weights of BERT inside the blocks; where pairs of items that the user of a row has taken are no
    negatives; where titles stand before the items' vectors; and in the tasks, three short ones in
    place of 24.

    Args:
        train: the schedule of the second stage; ``batch_tokens`` is not used, ``batch`` is.
        seed: of everything random.
        folder: where checkpoints and logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`ILMSettings`.
    """

    name = "ilm"
    settings_type = ILMSettings
    settings: ILMSettings
    module: ILMModule

    def _build(self, split: Split) -> ILMModule:
        module, began = self._made(split.dataset, self.item_ids()), time.monotonic()
        if self.settings.bridge == "aligned" and self.settings.soft:
            content = encoding.cached(encoding.build(self.settings.encoder), split)
            wide = torch.from_numpy(content * content.shape[1] ** 0.5)  # rows of unit length
            module.language = self._language(split.dataset, module, wide)
        self.seconds["encode"] = time.monotonic() - began
        return module

    def _made(self, dataset: Dataset, ids: Tensor) -> ILMModule:
        titles, kinds = self.titles(dataset), item_texts(dataset.items, KINDS)
        return ILMModule(self.source, titles, kinds, ids, self.settings)

    def _language(self, dataset: Dataset, module: ILMModule, content: Tensor) -> ItemLanguage:
        s, tokenizer = self.settings, self.source.tokenizer
        rows = tokenizer(item_texts(dataset.items, s.fields), add_special_tokens=False).input_ids
        known = np.unique(np.array([token for row in rows for token in row[: s.words]], np.int64))
        texts = np.full((len(rows), s.words), -1, dtype=np.int32)
        for at, row in enumerate(rows):
            texts[at, : len(row)] = np.searchsorted(known, row[: s.words])
        # The language model's words in drawn directions, and what ends a text.
        words = module.embed(torch.from_numpy(known)).detach().float().cpu()
        table = torch.cat([words @ torch.randn(module.width, s.width), torch.randn(1, s.width)])
        table = nn.functional.normalize(table, dim=1)
        return ItemLanguage(content, torch.from_numpy(texts), table, s.joint)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> ILMModule:
        self.sequence = SASRec.load(folder / "sequence", dataset)
        ids = torch.zeros(dataset.n_items, weights["ids"].shape[1])
        module = self._made(dataset, ids)
        if "language.words" in weights:
            content, texts, table = (
                torch.zeros_like(weights[f"language.{name}"])
                for name in ("content", "texts", "words")
            )
            module.language = ItemLanguage(content, texts, table, self.settings.joint)
        return module

    def _task(self, split: Split) -> Task:
        return Conversing(self, split)

    def learn(self, split: Split) -> None:
        """Represent items, then tell them."""
        torch.manual_seed(self.seed)
        self.forget()
        self.module = module = self._build(split).to(device())
        before = checksum(module.lm)
        represented: dict[str, Any] = {}
        beside = self.folder and self.folder / "represent"
        if hasattr(module, "language"):
            module.begin("represent")
            first = Trainer(self.settings.represent, self.seed, beside, self.quiet)
            represented = first.fit(module, module.noise, Representing(self, split))
        module.begin("tell")
        module.meet()
        self.forget()
        task = Conversing(self, split)
        self.training, history = {"epochs": 0, "seconds": 0.0}, []
        if self.settings.soft:
            second = Trainer(self.train, self.seed, self.folder, self.quiet)
            self.training = second.fit(module, module.noise, task)
            history = second.history
        else:
            self.training["valid_hit@1"] = task.validate()
        self.seconds["train"] = represented.get("seconds", 0.0) + self.training["seconds"]
        self.training |= {
            "represent": represented,
            "mix": float(module.mix),
            "language_unchanged": checksum(module.lm) == before,
            "log_perplexity": self.told_apart() if self.settings.soft else {},
            "history": history,
        }
        if beside is not None:
            (beside / "checkpoint.safetensors").unlink(missing_ok=True)
        self.forget()

    def told_apart(self) -> dict[str, float]:
        """Whether vectors are read: mean cross-entropy of the tokens of items' titles, of a sample.

        Returns:
            ``own``, told by an item's own vectors, and ``others``, by those of other items.
        """
        count = min(self.settings.checked, self.module.n_items)
        spaced = torch.linspace(0, self.module.n_items - 1, count).long().to(self.module.ids.device)
        return {
            "own": self.module.called(spaced, spaced),
            "others": self.module.called(spaced, spaced.roll(1)),
        }

    def joint(self, requests: Requests) -> Tensor:
        """float32[n, n_items], the SASRec's scores."""
        if self.module.training:
            self.module.eval()
        return self.sequence.score(replace(requests, candidates=None)).cpu()

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], the SASRec's."""
        return self.sequence.item_vectors()


def checksum(network: PreTrainedModel) -> str:
    """A hash of all weights of a language model."""
    found = hashlib.sha256()
    for name, weight in network.state_dict().items():
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _of_text(name: str) -> bool:
    return any(part in QueryTransformer.of_text for part in name.split("."))
