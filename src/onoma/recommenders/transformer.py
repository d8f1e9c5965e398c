"""What recommenders with a causal item transformer share: fitting, states, scores, storage."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from onoma.dataset import Ragged, Split
from onoma.neural.batching import SequenceBatches
from onoma.neural.blocks import Trunk, check_heads
from onoma.neural.device import autocast, device
from onoma.neural.trainer import Task, TrainSettings
from onoma.recommenders.base import Ranking, Requests, forbid, top_k
from onoma.recommenders.coarse import ROWS, Coarse
from onoma.recommenders.inputs import Entry
from onoma.recommenders.trained import TrainedModule, TrainedRecommender
from onoma.recommenders.tuning import validation_ndcg


class SequenceSettings(BaseModel):
    """What any trunk needs.

    Attributes:
        length: items of a history that are read, the last ones.
        scale: the dense head's logits are cosines times this; None: plain products.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(default=50, ge=2)
    scale: float | None = Field(default=14.0, gt=0)


class TransformerSettings(SequenceSettings):
    """The size of the trunk.

    Attributes:
        width: model width d.
        blocks: transformer blocks.
        heads: attention heads; they divide ``width``.
        dropout: rate inside the blocks.
        input_dropout: rate on the item vectors that enter.
    """

    width: int = Field(default=64, ge=4)
    blocks: int = Field(default=1, ge=1)
    heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    input_dropout: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        check_heads(self.width, self.heads)
        return self


class ItemSequenceModule(TrainedModule):
    """A trunk over item vectors with one row more than the catalogue, for padding.

    Subclasses give :meth:`table`, :meth:`states_of` and :meth:`loss`.
    """

    encoder: Trunk
    settings: SequenceSettings

    @abstractmethod
    def table(self) -> Tensor:
        """float32[n_items + 1, d] item vectors; the last row pads."""

    def states(self, items: Tensor, table: Tensor) -> Tensor:
        """int64[b, l] item codes to float[b, l, d]."""
        return self.states_of(nn.functional.embedding(items, table))

    @abstractmethod
    def states_of(self, vectors: Tensor) -> Tensor:
        """float[b, l, d] item vectors to float[b, l, d]."""

    def last(self, items: Tensor, ends: Tensor, table: Tensor) -> Tensor:
        """int64[b, l] item codes to float[b, d], what :meth:`states` gives at int64[b] places."""
        return self.encoder.last(nn.functional.embedding(items, table), ends)

    @abstractmethod
    def loss(self, states: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Scalar loss of float32[m, d] states against int64[m] next items, -1 for no item."""

    def query(self, states: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """What the dense head multiplies: float[n, d] states and float[n_items, d] items.

        ``table`` is that of the whole catalogue, since a head may know an item by its place alone;
        one of no rows does where only the states are wanted.

        With a ``scale`` their products are cosines times it (cosine softmax: Wang et al.,
        NormFace, MM 2017). The norms of id vectors otherwise learn popularity: SASRec's NDCG@10
        on Beauty is a twentieth lower after more epochs. Where content anchors the vectors the
        norms do no harm, and plain products rank better.
        """
        items = table[: self.n_items]
        if self.settings.scale is None:
            return states, items
        items = nn.functional.normalize(items, dim=1)
        return nn.functional.normalize(states, dim=1) * self.settings.scale, items


class TransformerRecommender(TrainedRecommender):
    """Fits an :class:`ItemSequenceModule` on every position and answers from its last state."""

    module: ItemSequenceModule
    settings: SequenceSettings

    @property
    def rows(self) -> int:
        """Histories read at a time when answering."""
        return 512

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(train=train, seed=seed, folder=folder, quiet=quiet, **settings)
        self._table: Tensor | None = None
        self._coarse: Coarse | None = None

    def _task(self, split: Split) -> Task:
        """What is trained on."""
        return NextItem(self, split)

    def forget(self) -> None:
        """Drop the item table."""
        self._table = self._coarse = None

    @torch.no_grad()
    def last_states(self, history: Ragged, times: Ragged | None = None) -> Tensor:
        """float32[n, d], the state after the last item of each history.

        An empty history reads one padding item.

        Rows are taken in order of length, so padding stays small. ``times``, aligned with the
        history, are for modules whose ``last`` reads them.
        """
        if self.module.training:  # to say it anew to every part costs as much as a layer
            self.module.eval()
        where = device()
        table = self.item_table()
        short = history.last(self.settings.length)
        lengths = np.maximum(short.lengths, 1)
        order = np.argsort(lengths, kind="stable")
        out = torch.empty(len(history), table.shape[1], device=where)
        for part in np.array_split(order, max(1, -(-len(order) // self.rows))):
            items = torch.from_numpy(
                short.take(part).padded(self.module.n_items, width=int(lengths[part].max()))
            ).to(where)
            ends = torch.from_numpy(lengths[part] - 1).to(where)
            # float32: a row's answer ignores its batch
            more: dict[str, Tensor] = {}
            if times is not None:
                when = times.last(self.settings.length).take(part)
                padded = when.padded(-1, width=int(lengths[part].max()))
                more["times"] = torch.from_numpy(padded).to(where)
            states = self.module.last(items, ends, table, **more)
            out[torch.from_numpy(part).to(where)] = states.float()
        return out

    def item_table(self) -> Tensor:
        """float32[n_items + 1, d], computed once after training."""
        if self.module.training:
            self.module.eval()
        if self._table is None:
            with torch.no_grad():
                self._keep(self.module.table())
        assert self._table is not None
        return self._table

    def _keep(self, table: Tensor) -> None:
        """Keep float32[n_items + 1, d] and what the dense head makes of it."""
        self._table = table
        _, items = self.module.query(table[:1], table)
        self._items = items.float().T.contiguous()
        self._coarse = Coarse.of(self._items.T) if self._items.device.type == "cpu" else None

    @torch.no_grad()
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: :meth:`answer` to the states of the requests, and their lift."""
        return self._lifted(self.states(requests), requests)

    def states(self, requests: Requests) -> Tensor:
        """float32[n, d]: the last states of the histories."""
        return self.last_states(requests.history)

    def lift(self, requests: Requests) -> sp.csr_array | None:
        """float32[n, n_items] that is added to the answer of the states, if anything is."""
        return None

    def _lifted(self, states: Tensor, requests: Requests) -> Tensor:
        scores, lift = self.answer(states), self.lift(requests)
        if lift is not None:
            scores.numpy()[np.repeat(np.arange(len(requests)), np.diff(lift.indptr)),
                           lift.indices] += lift.data  # fmt: skip
        return scores

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        self.item_table()
        coarse = self._coarse
        if coarse is not None and requests.candidates is None and len(requests) <= ROWS:
            found = self._narrowed(coarse, requests, k)
            if found is not None:
                return found
        return super()._recommend(requests, k, mode)

    @torch.no_grad()
    def _narrowed(self, coarse: Coarse, requests: Requests, k: int) -> Ranking | None:
        """What ``score`` and ``top_k`` say, of the items that eight bits leave; None if many."""
        query, _ = self.module.query(self.states(requests), self.item_table()[:0])
        near, error = coarse.products(query)
        lift = self.lift(requests)
        more = None if lift is None else lift.toarray()
        if more is not None:
            near += torch.from_numpy(more)
        forbid(near, requests.forbidden())
        least = near.topk(min(k, near.shape[1]), dim=1).values[:, -1] - 2 * error
        least = least.clamp(min=torch.finfo(torch.float32).min)  # what is forbidden is below
        left = np.flatnonzero((near >= least[:, None]).numpy())
        if len(left) > near.numel() // 8:
            return None
        rows, codes = np.divmod(left, near.shape[1])
        exact = np.einsum("nd,nd->n", query.numpy()[rows], self._items.numpy().T[codes])
        if more is not None:
            exact += more[rows, codes]
        counts = np.bincount(rows, minlength=len(near))
        place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        items = np.full((len(near), counts.max(initial=1)), -1, dtype=np.int64)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        items[rows, place], scores[rows, place] = codes, exact
        return top_k(torch.from_numpy(scores), k, items=torch.from_numpy(items))

    def answer(self, states: Tensor) -> Tensor:
        """float32[n, n_items]: the dense head's logits of float32[n, d] states."""
        return self._logits(states)

    @torch.no_grad()
    def enter(self, history: Ragged) -> Entry:
        """The vectors of the items that are read, the first of them in slot 0."""
        table = self.item_table()
        short = history.last(self.settings.length)
        lengths = np.maximum(short.lengths, 1)
        items = torch.from_numpy(short.padded(self.module.n_items, width=int(lengths.max())))
        place = np.arange(len(history.values)) - np.repeat(history.offsets[:-1], history.lengths)
        slots = place - np.repeat(history.lengths - short.lengths, history.lengths)
        return Entry(table[items.to(table.device)], np.maximum(slots, -1), lengths)

    @torch.no_grad()
    def stand_in(self, others: Ragged, entry: Entry) -> Tensor:
        """float32[n, slots, d]: the last items of the others, ended where the histories end.

        Slots before a shorter history hold zeros.
        """
        table = self.item_table()
        width = entry.vectors.shape[1]
        items = others.padded(self.module.n_items, width=width, align="right")
        place = np.arange(width)[None, :] + (width - entry.lengths)[:, None]
        items = np.take_along_axis(items, np.minimum(place, width - 1), axis=1)
        items[place >= width] = self.module.n_items
        codes = torch.from_numpy(items).to(table.device)
        return table[codes] * (codes != self.module.n_items)[:, :, None]

    def score_entry(self, vectors: Tensor, lengths: NDArray[np.int64]) -> Tensor:
        """float32[n, n_items]: :meth:`answer` to the last states."""
        self.module.eval()
        states = self.module.states_of(vectors)
        ends = torch.from_numpy(lengths - 1).to(states.device)
        last = states[torch.arange(len(lengths), device=states.device), ends]
        return self.answer(last.float())

    def _logits(self, states: Tensor) -> Tensor:
        query, _ = self.module.query(states, self.item_table()[:0])
        # float32: rounding scores to bf16 makes ties of a tenth of a list.
        if query.requires_grad or query.device.type != "cpu":
            return (query @ self._items).cpu()
        # Few rows against many columns: MKL spends as long on its copy of the items as on the
        # product, OpenBLAS half of that.
        return torch.from_numpy(query.numpy() @ self._items.numpy())

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what the dense head multiplies."""
        self.item_table()
        vectors: NDArray[np.float32] = self._items.T.cpu().numpy()
        return vectors

    @torch.no_grad()
    def _grown(self, rows: Tensor, tensors: dict[str, Tensor]) -> Self:
        """A copy that knows more items.

        Args:
            rows: float32[m, d], the item vectors of the new ones.
            tensors: new parameters and buffers of the module by name.
        """
        table = self.item_table()
        more = self._with_tensors(tensors, self.module.n_items + len(rows))
        more._keep(torch.cat([table[:-1], rows.to(table), table[-1:]]))
        return more


class NextItem:
    """The trainer's view: every position predicts its next item."""

    def __init__(self, owner: TransformerRecommender, split: Split) -> None:
        self.owner, self.split = owner, split
        self.batches = SequenceBatches(split.train, owner.train.batch_tokens, owner.settings.length)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return self.batches.plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module = self.owner.module
        where = device()
        items, following = self.batches.tensors(batch, module.n_items)
        items, following = items.to(where), following.to(where)
        states, table = self.read(items)
        known = following != module.n_items
        return module.loss(*even(states[known].float(), following[known]), table)

    def read(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """float[b, l, d] states of int64[b, l] items, and the table that the loss is given."""
        module = self.owner.module
        table = module.table()
        with autocast(items.device.type):
            return module.states(items, table), table

    def validate(self) -> float:
        self.owner.forget()
        figure = validation_ndcg(self.owner, self.split.valid, mode=self.owner.judged_in)
        self.owner.forget()
        return figure

    def users(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[rows], the user of every window of a batch."""
        return self.batches.owners[batch]

    def lengths(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[rows], the items that are read of every window of a batch."""
        return self.batches.windows.lengths[batch] - 1


def even(states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of zeros and targets of -1 up to a multiple of 128.

    Matrix libraries build a kernel for every shape they meet; a count of rows that differs from
    step to step made that a quarter of the time of a step.
    """
    short = -len(states) % 128
    return nn.functional.pad(states, (0, 0, 0, short)), nn.functional.pad(
        targets, (0, short), value=-1
    )
