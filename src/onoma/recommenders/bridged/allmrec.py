"""A frozen language model that is told who asks and what items are, in words and in vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from onoma import encoding
from onoma.dataset import Dataset, Ragged, Split
from onoma.neural.device import device
from onoma.neural.trainer import Task, Trainer, TrainSettings
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.candidates import (
    CandidateModule,
    CandidateRecommender,
    CandidateSettings,
)
from onoma.recommenders.bridged.soft import mlp
from onoma.recommenders.sequential.sasrec import SASRec

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

Phase = Literal["align", "tell"]
_TRAINED: dict[Phase, tuple[str, ...]] = {
    "align": ("item_in", "item_out", "text_in", "text_out"),
    "tell": ("user_bridge", "item_bridge"),
}
_ALIGN = TrainSettings(epochs=10, lr=1e-3, valid_every=2, patience=3)


class ALLMRecSettings(CandidateSettings):
    """The two stages.

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


class ALLMRecModule(CandidateModule):
    """The autoencoder of the first stage and the two bridges of the second.

    Attributes:
        content: float32[n_items, D], text vectors of mean square 1, frozen.
        warm: bool[n_items], whose ids are trusted.
    """

    settings: ALLMRecSettings
    content: Tensor
    warm: Tensor

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
        self.item_in = nn.Sequential(nn.Linear(d, joint), nn.Sigmoid())
        self.item_out = nn.Linear(joint, d)
        self.text_in = nn.Sequential(nn.Linear(wide, joint), nn.Sigmoid())
        self.text_out = nn.Linear(joint, wide)
        self.user_bridge = mlp((d, h, h), (nn.LayerNorm(h), nn.LeakyReLU()))
        self.item_bridge = mlp((joint, h, h), (nn.GELU(),))

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

    def of_items(self, items: Tensor) -> Tensor:
        """float32[m, 1, width], the item bridge of what items share with their texts."""
        found: Tensor = self.item_bridge(self.joined(items))
        return found[:, None]

    def of_users(self, states: Tensor) -> Tensor:
        """float32[n, 1, width], the user bridge of float32[n, d] states."""
        found: Tensor = self.user_bridge(states)
        return found[:, None]


class ALLMRec(CandidateRecommender):
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
        super().forget()
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

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what the first stage's scores multiply."""
        self.joint(Requests(Ragged.empty(1)))
        assert self._items is not None
        vectors: NDArray[np.float32] = self._items.cpu().numpy()
        return vectors
