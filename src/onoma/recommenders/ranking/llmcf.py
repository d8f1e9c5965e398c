"""A click model that reads a few like cases, with why they ended as they did, as evidence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.encoding.base import TextEncoder
from onoma.encoding.shuffled import deal
from onoma.errors import OnomaError
from onoma.neural.blocks import SequenceEncoder, check_heads
from onoma.recommenders.ranking import reasons
from onoma.recommenders.ranking.clicks import ClickSettings, Pairs, attributes
from onoma.recommenders.ranking.din import DIN, DINModule
from onoma.recommenders.ranking.reasons import ModelReasoner, Reasoner, TemplateReasoner

_HIDDEN = (256, 128)  # of texts, of features


class ReasonSettings(BaseModel):
    """Where reasonings come from.

    Attributes:
        by: ``template`` (rationales of attributes), or a language model as ``onoma models`` names
            it.
        size: training pairs that are reasoned about, half of them clicks.
        keep: share that is kept, the best of each label by
            :func:`onoma.recommenders.ranking.reasons.vectors_of`.
        recent: items of the history that are told.
        tokens: of an answer of a language model, at most.
        domain: how one speaks of the items.
        encoder: a text encoder of the reasonings.
        seed: of the sample; the same for all seeds of a recipe, so that nothing is written twice.
        shuffled: the control: a seed by which finished reasonings are dealt out among the pairs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Any = "template"
    size: int = Field(default=2000, ge=8)
    keep: float = Field(default=0.8, gt=0, le=1)
    recent: int = Field(default=5, ge=1)
    tokens: int = Field(default=80, ge=8)
    domain: Any = "products"
    encoder: Any = "sentence"
    seed: int = Field(default=0, ge=0)
    shuffled: int | None = None


class LLMCFSettings(ClickSettings):
    """The in-context part.

    Attributes:
        content: what turns items into vectors, for retrieval and as features.
        reasons: where reasonings come from.
        examples: read beside a pair, half of them clicks.
        blocks: of the decoder.
        heads: of the decoder; they divide ``width``.
        weight: of the reconstruction of reasonings.
    """

    content: Any = {"name": "joined", "parts": ["sentence"], "dim": 64}
    reasons: ReasonSettings = ReasonSettings()
    examples: int = Field(default=4, ge=2, multiple_of=2)
    blocks: int = Field(default=1, ge=1)
    heads: int = Field(default=2, ge=1)
    weight: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.width, self.heads)
        return self


class LLMCFModule(DINModule):
    """DIN and a decoder over retrieved examples.

    Attributes:
        content: float32[n_items + 1, c], frozen; the last row pads.
        base_*: of the b reasoned pairs, clicks first: ``history`` int64[b, l], ``users``,
            ``places``, ``items`` int64[b], ``taken`` bool[b], ``reasons`` float32[b, r].
    """

    content: Tensor
    base_history: Tensor
    base_users: Tensor
    base_places: Tensor
    base_items: Tensor
    base_taken: Tensor
    base_reasons: Tensor
    keys: Tensor

    def __init__(
        self,
        users: int,
        attributes: NDArray[np.int64],
        settings: LLMCFSettings,
        content: Tensor,
        base: dict[str, Tensor],
    ) -> None:
        width = settings.width
        super().__init__(users, attributes, settings, more=width)
        self.examples, self.weight = settings.examples, settings.weight
        self.register_buffer("content", content)
        for name, value in base.items():
            self.register_buffer(f"base_{name}", value)
        text, wide = _HIDDEN
        self.text = _two(content.shape[1], text, width)
        self.features = _two(6 * width, wide, width)
        self.reason = _two(base["reasons"].shape[1], text, width)
        self.label = nn.Embedding(2, width)
        length = 3 * settings.examples + 1
        self.decoder = SequenceEncoder(
            width, settings.blocks, settings.heads, length, settings.dropout, 0.0, self.noise
        )
        self.rebuild = nn.Linear(width, base["reasons"].shape[1])
        self.register_buffer("keys", torch.zeros(0), persistent=False)

    def vectors(self, history: Tensor, items: Tensor) -> Tensor:
        """float64[m, 2c], what similarity compares: mean content of the history, and the item's.

        In double precision, so that which examples are found does not hang on the batch.
        """
        known = (history < self.n_items)[:, :, None]
        told = nn.functional.embedding(history, self.content) * known
        mean = told.sum(1) / known.sum(1).clamp(min=1)
        return torch.cat([mean, self.content[items]], dim=1).double()

    @torch.no_grad()
    def retrieve(self, pairs: Pairs) -> Tensor:
        """int64[m, k] rows of the base: half the nearest clicks, half the nearest non-clicks.

        Nothing is told of what a pair's owner did at its place or later, whether or not the user
        is told.
        """
        if not len(self.keys):
            self.keys = self.vectors(self.base_history, self.base_items)
        near = 0.5 * self.vectors(pairs.history, pairs.items) @ self.keys.T
        near = (near * 1e6).round() * 1e-6
        owners = pairs.users if pairs.owners is None else pairs.owners
        same = owners[:, None] == self.base_users
        near = near.masked_fill(same & (self.base_places >= pairs.places[:, None]), -1e9)
        # The lower row among equals.
        near = near - torch.arange(near.shape[1], device=near.device) * 1e-10
        clicks, half = int(self.base_taken.sum()), self.examples // 2
        right = near[:, :clicks].topk(half, dim=1).indices
        wrong = near[:, clicks:].topk(half, dim=1).indices + clicks
        return torch.stack([right, wrong], dim=2).flatten(1).flip(1)

    def feature(self, pairs: Pairs, table: Tensor) -> Tensor:
        """float32[m, d], the token of a pair: ids, attributes, mean history, text."""
        known = (pairs.history < self.n_items)[:, :, None]
        mean = (nn.functional.embedding(pairs.history, table) * known).sum(1)
        category, brand = self.kinds[pairs.items].unbind(1)
        parts = [
            self.user(pairs.users),
            self.item(pairs.items),
            self.category(category),
            self.brand(brand),
            mean / known.sum(1).clamp(min=1),
            self.text(self.content[pairs.items]),
        ]
        out: Tensor = self.features(torch.cat(parts, dim=1))
        return out

    def context(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """What the examples say of each pair, and how far their reasonings are rebuilt.

        Returns:
            float32[m, d], and the mean of 1 - cosine of rebuilt and original reasonings.
        """
        found = self.retrieve(pairs)
        table = self.table()
        rows, place = torch.unique(found, return_inverse=True)
        base = Pairs(
            self.base_history[rows],
            self.base_users[rows],
            self.base_items[rows],
            self.base_places[rows],
        )
        tokens = torch.stack(
            [
                self.feature(base, table),
                self.reason(self.base_reasons[rows]),
                self.label(self.base_taken[rows].long()),
            ],
            dim=1,
        )
        told = tokens[place].flatten(1, 2)
        states = self.decoder(torch.cat([told, self.feature(pairs, table)[:, None]], dim=1))
        rebuilt = self.rebuild(states[:, 0:-1:3])
        close = nn.functional.cosine_similarity(rebuilt, self.base_reasons[found], dim=2)
        return states[:, -1], 1 - close.mean()

    def logits(self, pairs: Pairs) -> Tensor:
        """float32[m]."""
        return self._answered(pairs)[0]

    def loss(self, pairs: Pairs, labels: Tensor) -> Tensor:
        """Cross-entropy, and the reconstruction."""
        logits, far = self._answered(pairs)
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return entropy + self.weight * far

    def _answered(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        evidence, far = self.context(pairs)
        return self.head(torch.cat([self.read(pairs), evidence], dim=1))[:, 0], far


class LLMCF(DIN):
    """LLM-CF (S104): DIN that reads like cases with their reasonings; no language model answers.

    Sun et al., CIKM 2024. For a sample of training pairs it is written down why the user took the
    item or did not. A pair is then scored beside the four nearest of these, two of each label; a
    small decoder reads for each its features, its reasoning and its label, then the pair's own
    features, and hands its last state to DIN's head. Similarity is half that of the histories'
    mean content and half that of the items. What the pair's own user did at its place or later is
    never told, and validation and test pairs are never in the base.

    We depart from it where reasonings are rationales of attributes unless ``reasons.by`` names a
    language model, which is not tuned; examples stand the farthest first, not shuffled; ids share
    DIN's tables.

    Args:
        settings: of :class:`LLMCFSettings`. The rest as for :class:`DIN`.
    """

    name = "llmcf"
    module: LLMCFModule
    settings: LLMCFSettings
    settings_type = LLMCFSettings

    def language_report(self) -> dict[str, Any]:
        """How many reasonings by whom, and what they took; empty after loading."""
        return self.training.get("reasons", {})

    def _build(self, split: Split) -> LLMCFModule:
        began = time.monotonic()
        settings = self.settings
        content = encoding.cached(encoding.build(settings.content), split)
        base = self._base(split)
        self.seconds["encode"] = time.monotonic() - began
        padded = np.concatenate([content, np.zeros((1, content.shape[1]), dtype=np.float32)])
        return LLMCFModule(
            split.dataset.n_users,
            attributes(split.dataset.items),
            settings,
            torch.from_numpy(padded),
            base,
        )

    def _base(self, split: Split) -> dict[str, Tensor]:
        how = self.settings.reasons
        encoder = encoding.build(how.encoder)
        if not isinstance(encoder, TextEncoder):
            raise OnomaError(f"{encoder.name} reads no texts", where=f"{self.name}: reasons")
        examples = reasons.sampled(split, how.size, how.seed)
        told = reasons.facts(split, examples, how.recent)
        writer: Reasoner = TemplateReasoner()
        if how.by != "template":
            from onoma.language.opening import open_model

            writer = ModelReasoner(open_model(how.by), how.domain, how.tokens)
        texts = writer.write(told)
        taken = np.array([one.taken for one in examples], dtype=bool)
        vectors, quality = reasons.vectors_of(texts, told, encoder)
        rows = reasons.kept(quality, taken, how.keep)
        half = self.settings.examples // 2
        if min(taken[rows].sum(), (~taken[rows]).sum()) < half:
            raise OnomaError(
                "too few reasonings of use", where=self.name, fix="Raise reasons.size or keep"
            )
        vectors = vectors[rows]
        if how.shuffled is not None:
            vectors = deal(vectors, how.shuffled)
        self._told(writer, len(texts), len(rows))
        chosen = [examples[row] for row in rows]
        history = reasons.before(split, chosen, self.settings.length)
        return {
            "history": torch.from_numpy(history.padded(split.dataset.n_items)),
            "users": _column(one.user for one in chosen),
            "places": _column(one.place for one in chosen),
            "items": _column(one.item for one in chosen),
            "taken": torch.tensor([one.taken for one in chosen]),
            "reasons": torch.from_numpy(vectors),
        }

    def _told(self, writer: Reasoner, written: int, kept: int) -> None:
        self._written: dict[str, Any] = {
            "model": "none: template rationales of attributes",
            "answers": {"asked": written, **dict(sorted(writer.counts.items())), "kept": kept},
            "usage": {},
            "note": "A reasoning that is empty or among the worst of its label is left out.",
        }
        if isinstance(writer, ModelReasoner):
            meter = getattr(writer.model, "recorded", writer.model.meter)
            self._written |= {"model": writer.model.identity, "usage": meter.report()}

    def fit(self, split: Split) -> LLMCF:
        """Write reasonings, then train; validation picks the weights."""
        super().fit(split)
        self.training["reasons"] = self._written
        return self

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> LLMCFModule:
        kinds: NDArray[np.int64] = weights["kinds"][:-1].numpy()
        if len(kinds) != dataset.n_items:
            raise ValueError(f"weights of {len(kinds)} items")
        base = {
            name.removeprefix("base_"): torch.zeros_like(value)
            for name, value in weights.items()
            if name.startswith("base_")
        }
        content = torch.zeros_like(weights["content"])
        return LLMCFModule(len(weights["user.weight"]) - 1, kinds, self.settings, content, base)


def _two(before: int, middle: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, middle), nn.PReLU(), nn.Linear(middle, after))


def _column(values: Any) -> Tensor:
    found: Sequence[int] = list(values)
    return torch.tensor(found, dtype=torch.int64)
