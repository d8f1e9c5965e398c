"""Three experts for a history: by ids, by text drawn to the ids' space, and by text alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma import encoding
from onoma.dataset import Dataset, Split
from onoma.neural.alignment import mk_mmd
from onoma.neural.blocks import Trunk
from onoma.neural.device import device
from onoma.neural.trainer import Trainer
from onoma.recommenders.sequential.identity import IdModule, IdRecommender, IdSettings
from onoma.recommenders.transformer import NextItem

Phase = Literal["pretrain", "align", "experts"]
EXPERTS = ("id", "aligned", "text")
_ACTIVE: dict[Phase, tuple[int, ...]] = {
    "pretrain": (0,), "align": (1,), "experts": (0, 1, 2)
}  # fmt: skip


class PadSettings(IdSettings):
    """What is read, and the three steps; ``train.epochs`` is the length of the last.

    Attributes:
        encoder: what turns item texts into vectors; anything ``encoding.build`` takes.
        pretrain: epochs of the id model alone.
        align: epochs in which projected text is drawn to the ids' space.
        gamma: weight of the discrepancy in that step.
        sample: items of a batch between which it is measured, at most.
        hidden: units of the layers of a projection.
        bins: groups of items by training count, each with its own weights of the experts.
    """

    encoder: Any = "sentence"
    pretrain: int = Field(default=8, ge=1)
    align: int = Field(default=6, ge=1)
    gamma: float = Field(default=0.2, ge=0)
    sample: int = Field(default=256, ge=2)
    hidden: int = Field(default=128, ge=1)
    bins: int = Field(default=11, ge=2)


class Experts(Trunk):
    """Encoders side by side: each reads its own share of the item vectors."""

    def __init__(self, parts: list[Trunk]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.active: tuple[int, ...] = (0,)

    def forward(self, items: Tensor) -> Tensor:
        """float[b, l, k * d] to the same, for k active encoders."""
        shares = items.chunk(len(self.active), dim=-1)
        states = [self.parts[i](x) for i, x in zip(self.active, shares, strict=True)]
        return torch.cat(states, dim=-1)

    def last(self, items: Tensor, ends: Tensor) -> Tensor:
        """float[b, k * d], the states at int64[b] places."""
        shares = items.chunk(len(self.active), dim=-1)
        trunks: list[Any] = [self.parts[i] for i in self.active]
        return torch.cat([t.last(x, ends) for t, x in zip(trunks, shares, strict=True)], dim=-1)


class PadModule(IdModule):
    """Ids and text, and what each step makes of them.

    Args:
        n_items: size of the catalogue.
        settings: of the trunk and the steps.
        content: float32[n_items, D] text vectors, frozen.
        counts: int64[n_items] training interactions; None for weights that are to be loaded.
    """

    settings: PadSettings
    encoder: Experts
    content: Tensor
    bin: Tensor

    def __init__(
        self,
        n_items: int,
        settings: PadSettings,
        content: Tensor,
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(n_items, settings, counts)
        self.phase: Phase = "pretrain"
        wide, width = content.shape[1], settings.width
        self.register_buffer("content", torch.cat([content, content.new_zeros(1, wide)]))
        known = np.zeros(n_items, dtype=np.int64) if counts is None else counts
        self.register_buffer("bin", torch.from_numpy(frequency_bins(known, settings.bins)))
        self.copy = nn.Parameter(self.ids.detach().clone())
        self.up, self.own = (_projection(wide, settings.hidden, width) for _ in range(2))
        self.mix = nn.Linear(2 * width, width)
        # Rare items begin with the text expert in front, frequent ones with that of the ids.
        slope = torch.linspace(-2, 2, settings.bins)
        self.gates = nn.Parameter(torch.stack([slope, torch.zeros_like(slope), -slope]))

    def trunk(self) -> Trunk:
        """One encoder an expert."""
        return Experts([self.sequence_encoder() for _ in EXPERTS])

    def begin(self, phase: Phase) -> None:
        """Go on to a step: later ones start from what earlier ones learnt."""
        self.phase, self.encoder.active = phase, _ACTIVE[phase]
        first, second, third = self.encoder.parts
        if phase == "align":
            self.copy.data.copy_(self.ids.data)
            second.load_state_dict(first.state_dict())
        elif phase == "experts":
            self.own.load_state_dict(self.up.state_dict())
            third.load_state_dict(second.state_dict())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(_learns(name, phase))

    def table(self) -> Tensor:
        """float32[n_items + 1, k * d], the vectors of each active expert side by side."""
        if self.phase == "pretrain":
            return self.ids
        aligned: Tensor = self.mix(torch.cat([self.copy, self.up(self.content)], dim=1))
        if self.phase == "align":
            return aligned
        return torch.cat([self.ids, aligned, self.own(self.content)], dim=1)

    def weights(self) -> Tensor:
        """float32[3, bins], the share of each expert, adding up to 1."""
        open_ = torch.sigmoid(self.gates)
        return open_ / open_.sum(0)

    def query(self, states: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """States and items whose products are the experts' scores, weighed by the item's bin."""
        items = table[: self.n_items]
        if self.phase != "experts":
            return super().query(states, table)
        share = self.weights()[:, self.bin[: len(items)]]
        scale = self.settings.scale
        of_states, of_items = [], []
        for state, item, weight in zip(states.chunk(3, 1), items.chunk(3, 1), share, strict=True):
            if scale is not None:
                state, item = F.normalize(state, dim=1) * scale, F.normalize(item, dim=1)
            of_states.append(state)
            of_items.append(item * weight[:, None])
        return torch.cat(of_states, 1), torch.cat(of_items, 1)

    def discrepancy(self, targets: Tensor) -> Tensor:
        """MK-MMD between projected texts and trained ids of a batch's items, padding left out.

        The ids are those of the first step and stay where they are: the text moves.
        """
        items = torch.unique(targets[targets >= 0])
        if len(items) < 2:
            return self.ids.sum() * 0
        if len(items) > self.settings.sample:
            drawn = self.noise.uniform(len(items)).to(items.device).argsort()
            items = items[drawn[: self.settings.sample]]
        return mk_mmd(self.up(self.content[items]), self.ids[items].detach())

    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """The next item's loss, and in the second step the discrepancy."""
        out = super().loss(states, targets, table)
        if self.phase == "align" and self.settings.gamma:
            out = out + self.settings.gamma * self.discrepancy(targets)
        return out


class PAD(IdRecommender):
    """PAD (S101): pre-train, align, disentangle.

    Wang et al., SIGIR 2025. First a SASRec learns ids. Then projected text vectors are drawn to
    the space of those ids by a multi-kernel discrepancy, while the next item's loss over both
    keeps them useful; ids and encoder of this step are copies, so the first ones stay as they
    were. Last, three experts (ids, aligned, text alone) answer together, each with an encoder of
    its own; items of few interactions lean on text, those of many on ids, by weights that are
    learnt for each of ``bins`` groups.

    We depart from it where every step has SASRec's softmax here, not one negative a position, and
    where the third expert begins as the second.

    Args:
        train: the schedule of the last step; the others share all but the epochs.
        seed: of weights, batches and noise.
        folder: where checkpoints and the logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`PadSettings`.
    """

    name = "pad"
    settings_type = PadSettings
    settings: PadSettings
    module: PadModule

    def _build(self, split: Split) -> PadModule:
        began = time.monotonic()
        content = encoding.cached(encoding.build(self.settings.encoder), split)
        self.seconds["encode"] = time.monotonic() - began
        counts = split.train_counts
        return PadModule(split.dataset.n_items, self.settings, torch.from_numpy(content), counts)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> PadModule:
        content = torch.zeros(dataset.n_items, weights["content"].shape[1])
        module = PadModule(dataset.n_items, self.settings, content)
        module.begin("experts")
        return module

    def fit(self, split: Split) -> Self:
        """Train in three steps, each from the best validated weights of the one before."""
        torch.manual_seed(self.seed)
        self.forget()
        self.module = self._build(split).to(device())
        steps: dict[Phase, int] = {
            "pretrain": self.settings.pretrain,
            "align": self.settings.align,
            "experts": self.train.epochs,
        }
        told: dict[str, Any] = {}
        history: list[dict[str, Any]] = []
        for phase, epochs in steps.items():
            self.module.begin(phase)
            self.forget()
            # The last step's log and checkpoint are the run's.
            beside = self.folder and (self.folder if phase == "experts" else self.folder / phase)
            plan = self.train.model_copy(update={"epochs": epochs})
            trainer = Trainer(plan, self.seed, beside, self.quiet)
            told[phase] = trainer.fit(self.module, self.module.noise, NextItem(self, split))
            history += [{"phase": phase, **row} for row in trainer.history]
        for phase in ("pretrain", "align"):
            if self.folder:
                (self.folder / phase / "checkpoint.safetensors").unlink(missing_ok=True)
        self.seconds["train"] = sum(row["seconds"] for row in told.values())
        shares = self.module.weights().detach().cpu().numpy().round(3).tolist()
        self.training = {
            **told["experts"],
            "steps_before": {phase: told[phase] for phase in ("pretrain", "align")},
            "experts": dict(zip(EXPERTS, shares, strict=True)),
            "history": history,
        }
        self.forget()
        return self


def frequency_bins(counts: NDArray[np.integer], bins: int) -> NDArray[np.int64]:
    """int64[n_items]: 0 for items without an interaction, then equal parts from rare to frequent.

    Args:
        counts: int[n_items] training interactions.
        bins: groups; items of equal count are in the same one.
    """
    out = np.zeros(len(counts), dtype=np.int64)
    some = np.flatnonzero(counts > 0)
    if len(some):
        ordered = np.sort(counts[some])
        rarer = np.searchsorted(ordered, counts[some], side="left") / len(some)
        out[some] = 1 + np.minimum((rarer * (bins - 1)).astype(np.int64), bins - 2)
    return out


def _projection(wide: int, hidden: int, width: int) -> nn.Sequential:
    """Four layers from text vectors to vectors of the model's width."""
    sizes = [wide, hidden, hidden, hidden, width]
    layers: list[nn.Module] = []
    for into, out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(into, out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _learns(name: str, phase: Phase) -> bool:
    """Whether a parameter is trained in a step; in the last all are."""
    if phase == "experts":
        return True
    own = ("ids", "encoder.parts.0") if phase == "pretrain" else ("copy", "up", "mix",
                                                                  "encoder.parts.1")  # fmt: skip
    return name.startswith(own)
