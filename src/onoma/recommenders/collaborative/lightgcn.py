"""Vectors of users and items that walk along the training graph; without steps, factorisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from onoma.dataset import Dataset, Ragged, Split
from onoma.encoding.cooccurrence import interactions
from onoma.neural.device import device
from onoma.neural.graph import Bipartite
from onoma.neural.loss import sampled_softmax
from onoma.neural.noise import Noise
from onoma.neural.pairwise import pairwise
from onoma.neural.spectrum import Spectrum
from onoma.neural.trainer import Task
from onoma.recommenders.base import Requests
from onoma.recommenders.trained import TrainedModule, TrainedRecommender
from onoma.recommenders.tuning import validation_ndcg

START = 0.1  # standard deviation of fresh vectors


class GraphSettings(BaseModel):
    """The tables, the walk and the loss.

    Attributes:
        width: dimensions d of a vector.
        layers: steps along the graph, averaged with the start; 0 is matrix factorisation.
        loss: ``infonce`` of cosines, or ``bpr`` of products.
        negatives: items drawn a batch, uniform, shared by its rows.
        temperature: what cosines are divided by.
        batch: interactions a training step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=64, ge=1)
    layers: int = Field(default=2, ge=0)
    loss: Literal["infonce", "bpr"] = "infonce"
    negatives: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.2, gt=0)
    batch: int = Field(default=4096, ge=1)


class GraphModule(TrainedModule):
    """Two tables and the graph between them.

    Args:
        held: [n_users, n_items] training interactions; None for weights that are to be loaded,
            which answer but do not train.
        shape: users and items.
        settings: the tables, the walk and the loss.

    Attributes:
        out: float32[n_items, d], what scores multiply.
        walked: float32[n_items, d], what an item adds to a user who has it, in all steps.
        base: float32[n_users, d], the mean of the items that a user has in training.
        ratio: float32[], how much longer users are than their means, by least squares.
        told: what the user vectors of a training batch go through, for those who listen.
    """

    out: Tensor
    walked: Tensor
    root: Tensor
    base: Tensor
    ratio: Tensor

    def __init__(
        self, held: sp.csr_array | None, shape: tuple[int, int], settings: GraphSettings
    ) -> None:
        super().__init__()
        (self.n_users, self.n_items), self.settings = shape, settings
        self.noise, self.told = Noise(), nn.Identity()
        self.graph = None if held is None else Bipartite(held)
        degree = np.ones(self.n_items) if held is None else np.maximum(held.sum(axis=0), 1)
        self.register_buffer(
            "root", torch.from_numpy(1 / np.sqrt(degree)).float()[:, None], persistent=False
        )
        for name in ("out", "walked"):
            self.register_buffer(name, torch.zeros(self.n_items, settings.width))
        self.held = held
        self.tables()

    def tables(self) -> None:
        """Make the parameters."""
        width = self.settings.width
        self.users = nn.Parameter(torch.randn(self.n_users, width) * START)
        self.items = nn.Parameter(torch.randn(self.n_items, width) * START)
        self.register_buffer("base", torch.zeros(self.n_users, width))
        self.register_buffer("ratio", torch.ones(()))

    def inputs(self) -> tuple[Tensor, Tensor]:
        """float32[n_users, d] and float32[n_items, d], before the first step."""
        return self.users, self.items

    def start(self, history: sp.csr_array, users: Tensor) -> Tensor:
        """float32[n, d], users before the first step.

        A user whose history has changed since training moves as its mean does: otherwise a new
        item counts in the walk alone, which costs a tenth of NDCG@10 on Beauty. A stranger
        stands at the mean, and with no history where all users do.

        Args:
            history: [n, n_items], one where the row holds the item.
            users: int64[n] user codes, -1 for strangers.
        """
        known = (users >= 0) & (users < self.n_users)
        codes = users.clamp(0, self.n_users - 1)
        mean = mean_rows(history, self.items)
        out = self.users[codes] + self.ratio * (mean - self.base[codes])
        filled = torch.from_numpy(history.sum(axis=1) > 0).to(known.device)[:, None]
        guess = torch.where(filled, self.ratio * mean, self.users.mean(0))
        return torch.where(known[:, None], out, guess)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Users, items and what an item adds to a user, after the whole walk.

        Returns:
            float32[n_users, d], float32[n_items, d], float32[n_items, d].
        """
        assert self.graph is not None
        steps = self.settings.layers
        users, items = self.graph.layers(*self.inputs(), steps)
        share = 1 / (steps + 1)
        walked = torch.stack(items[:-1]).sum(0) * self.root if steps else torch.zeros_like(items[0])
        return sum(users[1:], users[0]) * share, sum(items[1:], items[0]) * share, walked * share

    def settle(self) -> None:
        """Compute what answering reads from the weights as they are."""
        with torch.no_grad():
            _, items, walked = self()
            self.out.copy_(self.target(items))
            self.walked.copy_(walked)
            self.remember()

    def remember(self) -> None:
        """Where users stand beside the means of their training items."""
        assert self.held is not None
        self.base.copy_(mean_rows(self.held, self.items))
        along = (self.users * self.base).sum() / self.base.square().sum().clamp(min=1e-12)
        self.ratio.copy_(along.clamp(min=0))

    def target(self, items: Tensor) -> Tensor:
        """float32[n_items, d], what a user's vector is multiplied with."""
        if self.settings.loss == "infonce":
            return nn.functional.normalize(items, dim=1)
        return items

    def loss(self, users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Mean loss of int64[b] users, int64[b] items they took and int64[s] others."""
        of_users, of_items, _ = self()
        states, table = self.told(of_users[users]), self.target(of_items)
        if self.settings.loss == "bpr":
            return pairwise("bpr", states, table, items, negatives)
        states = nn.functional.normalize(states, dim=1) / self.settings.temperature
        even = torch.zeros(len(negatives), device=negatives.device)
        return sampled_softmax(states, table, items, negatives, even)


class LightGCN(TrainedRecommender):
    """LightGCN (He et al., SIGIR 2020), and matrix factorisation where ``layers`` is 0.

    Users and items are vectors that take ``layers`` steps along the training graph; the mean over
    all steps answers. The loss is InfoNCE with cosines (as AlphaRec trains, S044), or BPR (Rendle
    et al., UAI 2009), here against items that the rows of a batch share.

    A request is answered by its own history: the steps of the user are taken anew along it, from
    the user's trained vector where the user is known, moved by what came after training.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights and batches.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`GraphSettings`.
    """

    name = "lightgcn"
    reads = frozenset({"history", "users"})
    settings_type: ClassVar[type[GraphSettings]] = GraphSettings
    module: GraphModule
    settings: GraphSettings

    def _build(self, split: Split) -> GraphModule:
        held = interactions(split.train, split.dataset.n_items)
        return GraphModule(held, held.shape, self.settings)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> GraphModule:
        shape = (len(weights["users"]), dataset.n_items)
        return GraphModule(None, shape, self.settings)

    def _task(self, split: Split) -> Task:
        return Edges(self, split)

    def _found(self) -> dict[str, Any]:
        """How many directions the table of items uses."""
        with torch.no_grad():
            table = self.module.inputs()[1]
        return {"spectrum": Spectrum.of(table.detach().cpu().numpy()).describe()}

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], products of users and items."""
        return (self.user_vectors(requests.history, requests.users) @ self.module.out.T).cpu()

    @torch.no_grad()
    def user_vectors(self, history: Ragged, users: NDArray[np.int32] | None = None) -> Tensor:
        """float32[n, d]: each user's start, and the steps along the history.

        Args:
            history: n rows of item codes.
            users: int32[n] user codes, -1 for strangers.
        """
        self.module.eval()
        where = device()
        held = interactions(history, self.module.n_items)
        codes = np.full(len(history), -1) if users is None else users
        start = self.module.start(held, torch.from_numpy(codes.astype(np.int64)).to(where))
        root = 1 / np.sqrt(np.maximum(held.sum(axis=1), 1)).astype(np.float32)
        steps = spread(sp.csr_array(sp.diags_array(root) @ held), self.module.walked)
        return start / (self.settings.layers + 1) + steps

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what users are multiplied with."""
        vectors: NDArray[np.float32] = self.module.out.cpu().numpy()
        return vectors


def spread(weights: sp.csr_array, table: Tensor) -> Tensor:
    """float32[n, d]: a sparse [n, n_items] matrix times float32[n_items, d], no gradient."""
    product = np.asarray(weights @ table.detach().cpu().numpy(), dtype=np.float32)
    return torch.from_numpy(product).to(table.device)


def mean_rows(held: sp.csr_array, table: Tensor) -> Tensor:
    """float32[n, d], the mean of the rows of a table that each row of [n, n_items] holds."""
    share = (1 / np.maximum(held.sum(axis=1), 1)).astype(np.float32)
    return spread(sp.csr_array(sp.diags_array(share) @ held), table)


class Edges:
    """The trainer's view: interactions, shuffled every epoch."""

    def __init__(self, owner: LightGCN, split: Split) -> None:
        self.owner, self.split = owner, split
        held = interactions(split.train, split.dataset.n_items).tocoo()
        self.of_users, self.of_items = (axis.astype(np.int64) for axis in held.coords)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.of_users))
        return np.array_split(order, -(-len(order) // self.owner.settings.batch))

    def users(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[rows], the user of every row of a batch."""
        return self.of_users[batch]

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        users, items = (
            torch.from_numpy(x[batch]).to(where) for x in (self.of_users, self.of_items)
        )
        negatives = module.noise.integers(module.n_items, self.owner.settings.negatives)
        return module.loss(users, items, negatives.to(where))

    def validate(self) -> float:
        self.owner.module.settle()
        return validation_ndcg(self.owner, self.split.valid)
