"""Two tiers of a language model: one makes vectors of item texts, one reads them as a sequence."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset, Ragged, Split
from onoma.dataset.files import write_text
from onoma.encoding.text import item_texts
from onoma.errors import OnomaError
from onoma.language.opening import torch_model
from onoma.neural.batching import SequenceBatches
from onoma.neural.device import autocast, device
from onoma.neural.noise import GlobalNoise
from onoma.neural.tiers import TextTier, Tier, fresh, pretrained
from onoma.neural.trainer import Trainer, TrainSettings
from onoma.recommenders.text.causal import restored_config
from onoma.recommenders.transformer import (
    ItemSequenceModule,
    NextItem,
    SequenceSettings,
    TransformerRecommender,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Phase = Literal["together", "user"]
_SETTLED = 1024  # histories that the user tier's states are centred over


class HLLMSettings(SequenceSettings):
    """The two tiers and how they are trained; ``train`` is the schedule of the user tier alone.

    Attributes:
        model: the language model whose first layers both tiers are.
        start: its weights, or fresh ones of the same shape, the controls: in both tiers
            (``random``), or in the item tier and its words alone (``random-items``).
        item_layers: layers of the item tier.
        user_layers: layers of the user tier.
        fields: columns of the catalogue that make an item's text.
        instruction: stands before every text.
        words: tokens of a text that are read.
        scale: what cosines are multiplied with at first; it is learnt.
        together: the schedule in which both tiers are trained.
        share: of the batches of an epoch of that schedule that are taken, drawn by seed.
        added: items drawn for a step of that schedule; with those of the batch they are its
            negatives.
        negatives: items drawn for a step of the user tier's.
        same: negatives whose cosine with what is wanted is above this do not count.
    """

    length: int = Field(default=20, ge=2)
    scale: float = Field(default=1 / 0.07, gt=0, le=100)
    model: Any = "smollm2"
    start: Literal["pretrained", "random", "random-items"] = "pretrained"
    item_layers: int = Field(default=4, ge=1)
    user_layers: int = Field(default=4, ge=1)
    fields: tuple[str, ...] = ("title", "description")
    instruction: str = ""
    words: int = Field(default=24, ge=1)
    together: TrainSettings = TrainSettings(epochs=1, batch_tokens=1024, lr=1e-4, valid_every=1)
    share: float = Field(default=1.0, gt=0, le=1)
    added: int = Field(default=128, ge=0)
    negatives: int = Field(default=2048, ge=1)
    same: float = Field(default=0.99, gt=0, le=1)


class HLLMModule(ItemSequenceModule):
    """The tiers, the items' texts, and what the item tier made of them.

    Args:
        settings: of the tiers.
        texts: int32[n_items, l] places in ``known``, -1 behind a text.
        known: int64[v], the language model's tokens that texts may have.
        bodies: of the item tier and of the user tier.
        table: float32[v, d], vectors of the known tokens.

    Attributes:
        vectors: float32[n_items + 1, d], a row of zeros at the end; all zeros until the item tier
            has stopped to change.
    """

    settings: HLLMSettings
    encoder: Tier
    texts: Tensor
    known: Tensor
    vectors: Tensor

    def __init__(
        self,
        settings: HLLMSettings,
        texts: Tensor,
        known: Tensor,
        bodies: tuple[nn.Module, nn.Module],
        table: Tensor,
    ) -> None:
        super().__init__()
        self.settings, self.n_items, self.noise = settings, len(texts), GlobalNoise()
        self.item, self.encoder = TextTier(bodies[0], table), Tier(bodies[1])
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))
        self.register_buffer("texts", texts)
        self.register_buffer("known", known)
        self.register_buffer("vectors", torch.zeros(len(texts) + 1, table.shape[1]))
        self.begin("together")

    def begin(self, phase: Phase) -> None:
        """Train both tiers, or keep the items' vectors and train the user tier alone."""
        self.phase: Phase = phase
        self.item.requires_grad_(phase == "together")

    @torch.no_grad()
    def settle(self, train: Ragged) -> None:
        """Let both tiers begin with mean 0 and deviation 1, over all items and some histories."""
        self.eval()
        with autocast(self.texts.device.type):
            self.item.tier.settle(self.encode(self.texts))
            rows = np.linspace(0, len(train) - 1, min(_SETTLED, len(train))).astype(np.int64)
            short = train.take(rows).last(self.settings.length)
            items = torch.from_numpy(short.padded(self.n_items)).to(self.texts.device)
            states = self.states_of(F.embedding(items, self.table()))
            self.encoder.settle(states[items < self.n_items])

    @torch.no_grad()
    def remember(self) -> None:
        """Make the vectors of all items; only once the item tier does not change any more."""
        self.vectors[:-1] = self.encode(self.texts)

    def encode(self, texts: Tensor) -> Tensor:
        """float[n, d], the item tier's vectors of int[n, l] texts."""
        found: Tensor = self.item(texts)
        return found

    def table(self) -> Tensor:
        """float32[n_items + 1, d]: the vectors kept, or those of the item tier as it is now."""
        if self.phase == "user":
            return self.vectors
        return F.pad(self.encode(self.texts).float(), (0, 0, 0, 1))

    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""
        out: Tensor = self.encoder(vectors)
        return out

    def query(self, states: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """What the dense head multiplies: cosines times the learnt scale."""
        states = F.normalize(states, dim=1) * self.log_scale.exp().clamp(max=100)
        return states, F.normalize(table[: self.n_items], dim=1)

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Mean InfoNCE against items drawn for the step."""
        drawn = self.noise.integers(self.n_items, self.settings.negatives).to(targets.device)
        return self.contrast(states, targets, table[targets.clamp(min=0)], drawn, table[drawn])

    def contrast(
        self, states: Tensor, targets: Tensor, wanted: Tensor, drawn: Tensor, others: Tensor
    ) -> Tensor:
        """Mean InfoNCE of cosines; negatives that are what is wanted, or as good as, are left out.

        Args:
            states: float[m, d].
            targets: int64[m] next items, -1 for rows that do not count.
            wanted: float[m, d], their vectors.
            drawn: int64[k] items that all rows share.
            others: float[k, d], their vectors.
        """
        wanted, others = F.normalize(wanted.float(), dim=1), F.normalize(others.float(), dim=1)
        states = F.normalize(states.float(), dim=1)
        with torch.no_grad():
            alike = wanted @ others.T > self.settings.same
            alike |= targets[:, None] == drawn
        scale = self.log_scale.exp().clamp(max=100)
        hit = (states * wanted).sum(1, keepdim=True) * scale
        miss = (states @ others.T * scale).masked_fill(alike, -torch.inf)
        loss = torch.logsumexp(torch.cat([hit, miss], 1), 1) - hit[:, 0]
        return loss[targets >= 0].mean()


class HLLM(TransformerRecommender):
    """HLLM (S085): hierarchical language models for items and users.

    Chen et al., 2024. The first layers of a language model read an item's text and a learnt mark
    behind it; the mean of the states is the item's vector. The first layers of the same model,
    another copy without words, read the vectors of a history, and the state at each place is drawn
    to the vector of the next item by InfoNCE; there is no table of items. First both tiers are
    trained together. Then the item tier stays as it is, its vectors are kept, and the user tier is
    trained on them with more negatives; to answer costs what a model of ids does.

    We depart from it where the state at the mark alone is the vector and states are taken as they
    come, which a short training does not spread apart; where only tokens that the catalogue has
    are in the item tier's table of words, which is trained too; where negatives of the first phase
    are the batch's own items and some drawn ones; and where the ranking variant is left out.

    Args:
        train: the schedule of the user tier alone.
        seed: of batches, negatives and fresh weights.
        folder: where checkpoints and the logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`HLLMSettings`.
    """

    name = "hllm"
    around_weights = True
    settings_type = HLLMSettings
    settings: HLLMSettings
    module: HLLMModule
    _config: PreTrainedConfig

    def _build(self, split: Split) -> HLLMModule:
        s, model = self.settings, torch_model(self.settings.model)
        rows = self._tokens(split.dataset.items)
        known = np.unique(np.concatenate([*rows, np.zeros(1, np.int64)]))
        texts = torch.from_numpy(_padded([np.searchsorted(known, row) for row in rows]))
        (item, table), (user, _) = (
            pretrained(model, s.item_layers),
            pretrained(model, s.user_layers),
        )
        self._config = cast("PreTrainedConfig", item.config)
        table = table.float().cpu()[torch.from_numpy(known)]
        if s.start != "pretrained":
            torch.manual_seed(self.seed)
            item = fresh(self._config, s.item_layers)
            if s.start == "random":
                user = fresh(self._config, s.user_layers)
            spread = float(getattr(self._config, "initializer_range", 0.02))
            table = torch.randn(table.shape) * spread
        return HLLMModule(s, texts, torch.from_numpy(known), (item, user), table)

    def _tokens(self, items: pl.DataFrame) -> list[NDArray[np.int64]]:
        """The tokens of each item's text, the instruction in front."""
        s = self.settings
        read: Any = torch_model(s.model).tokenizer
        front = (
            list(read(s.instruction, add_special_tokens=False).input_ids) if s.instruction else []
        )
        texts = item_texts(items, s.fields)
        found = read(texts, add_special_tokens=False).input_ids if texts else []
        return [np.array(front + row[: s.words], dtype=np.int64) for row in found]

    def fit(self, split: Split) -> Self:
        """Train both tiers, keep the items' vectors, and go on with the user tier."""
        torch.manual_seed(self.seed)
        self.forget()
        self.module = self._build(split).to(device())
        self.module.settle(split.train)
        s, noise = self.settings, self.module.noise
        below = self.folder / "together" if self.folder else None
        first = Trainer(s.together, self.seed, below, self.quiet)
        before = first.fit(self.module, noise, _Together(self, split))
        began = time.monotonic()
        self.module.begin("user")
        self.module.remember()
        self.forget()
        self.seconds["encode"] = time.monotonic() - began
        trainer = Trainer(self.train, self.seed, self.folder, self.quiet)
        self.training = trainer.fit(self.module, noise, NextItem(self, split))
        if below is not None:
            (below / "checkpoint.safetensors").unlink(missing_ok=True)
        self.seconds["train"] = before["seconds"] + self.training["seconds"]
        rows = [
            {"phase": phase, **row}
            for phase, told in (("together", first), ("user", trainer))
            for row in told.history
        ]
        scale = float(self.module.log_scale.detach().exp().clamp(max=100))
        self.training |= {"together": before, "scale": scale, "history": rows}
        self.forget()
        return self

    @torch.no_grad()
    def extend(self, catalogue: pl.DataFrame, items: pl.DataFrame) -> Self:
        """New items by their texts; tokens that no text had in training are passed over."""
        module, known = self.module, self.module.known.cpu().numpy()
        rows = [np.searchsorted(known, row[np.isin(row, known)]) for row in self._tokens(items)]
        width = max(module.texts.shape[1], *(len(row) for row in rows))
        new = torch.from_numpy(_padded(rows, width)).to(module.texts.device)
        vectors = module.encode(new)
        old = F.pad(module.texts, (0, width - module.texts.shape[1]), value=-1)
        kept = torch.cat([module.vectors[:-1], vectors, module.vectors[-1:]])
        return self._grown(vectors, {"texts": torch.cat([old, new]), "vectors": kept})

    def save(self, folder: str | Path) -> None:
        """Write weights, settings and configuration; the language model is not needed any more."""
        super().save(folder)
        about = json.dumps(self._config.to_dict(), indent=2, default=str)
        write_text(about + "\n", Path(folder) / "tiers.json")

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> HLLMModule:
        try:
            about = json.loads((folder / "tiers.json").read_text(encoding="utf-8"))
            self._config = restored_config(about)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OnomaError(
                f"cannot read the tiers ({error})", where=str(folder),
                fix="Fit it again with onoma run",
            ) from error  # fmt: skip
        if len(weights["texts"]) != dataset.n_items:
            raise ValueError("another catalogue")
        s = self.settings
        bodies = fresh(self._config, s.item_layers), fresh(self._config, s.user_layers)
        table = torch.zeros_like(weights["item.words.weight"])
        module = HLLMModule(s, weights["texts"], weights["known"], bodies, table)
        module.begin("user")
        return module


class _Together(NextItem):
    """The trainer's view of the first phase: items are read anew in every step."""

    owner: HLLM

    def __init__(self, owner: HLLM, split: Split) -> None:
        super().__init__(owner, split)
        s = owner.settings
        self.batches = SequenceBatches(split.train, s.together.batch_tokens, s.length)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        batches = super().plan(seed, epoch)  # already in an order that the seed draws
        return batches[: math.ceil(self.owner.settings.share * len(batches))]

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        items, following = self.batches.tensors(batch, module.n_items)
        more = module.noise.integers(module.n_items, self.owner.settings.added)
        codes = torch.cat([items.flatten(), following.flatten(), more]).numpy()
        used = torch.from_numpy(np.setdiff1d(codes, [module.n_items])).to(where)
        items, following = items.to(where), following.to(where)
        with autocast(where.type):
            vectors = module.encode(module.texts[used])
            # The place behind the last one pads: it is larger than any code in use.
            states = module.states_of(F.pad(vectors, (0, 0, 0, 1))[torch.searchsorted(used, items)])
        known = following != module.n_items
        targets = following[known]
        wanted = vectors[torch.searchsorted(used, targets)]
        return module.contrast(states[known], targets, wanted, used, vectors)


def _padded(rows: list[NDArray[np.int64]], width: int = 0) -> NDArray[np.int32]:
    """int32[n, l], the rows left aligned, -1 behind them."""
    out = np.full((len(rows), max(width, 1, *(len(row) for row in rows))), -1, dtype=np.int32)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out
