"""Long histories searched by one table of vectors and read by another."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from onoma.dataset import Dataset, Split
from onoma.neural.noise import Noise
from onoma.recommenders.ranking.clicks import (
    ClickModule,
    ClickSettings,
    PairRanker,
    Pairs,
    attributes,
    head,
)

_START = 0.05  # standard deviation of fresh embeddings
_PLACE = 16


class DARESettings(ClickSettings):
    """The search, the tables and what the head is told.

    Attributes:
        width: of each field (id, category, brand) as it is read.
        attention: of each field as it is searched; None for ``width``. With ``shared`` tables it
            is ``width``, with ``projected`` ones what the projections give in all.
        keep: items of a history that are found and read.
        tables: ``decoupled``; or the controls ``shared`` (one table for both, as in TWIN),
            ``projected`` (one table, and linear maps of it for the search) and ``four``
            (decoupled, and candidates have tables apart from those of the history).
        search: by ``scores``, or the newest of the candidate's own ``category``.
        product: whether the head is told the product of candidate and history, too.
    """

    width: int = Field(default=16, ge=2)
    length: int = Field(default=200, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention: int | None = Field(default=None, ge=1)
    keep: int = Field(default=20, ge=1)
    tables: Literal["decoupled", "shared", "projected", "four"] = "decoupled"
    search: Literal["scores", "category"] = "scores"
    product: bool = True


class Tables(NamedTuple):
    """Vectors of all items and of all places, one row more than there are items (it pads).

    Attributes:
        asking: float32[n_items + 1, a], of candidates that search.
        asked: float32[n_items + 1, a], of the history that is searched.
        told: float32[n_items + 1, d], of candidates as the head reads them.
        read: float32[n_items + 1, d], of the history as it is read.
    """

    asking: Tensor
    asked: Tensor
    told: Tensor
    read: Tensor


class Fields(nn.Module):
    """One embedding a field, side by side.

    Args:
        sizes: rows of each field's table.
        width: of each.
    """

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        for part in self.parts:
            assert isinstance(part, nn.Embedding)
            nn.init.normal_(part.weight, std=_START)

    def forward(self, kinds: Tensor) -> Tensor:
        """float32[n, fields x width] of int64[n, fields]."""
        columns = zip(self.parts, kinds.unbind(1), strict=True)
        return torch.cat([part(column) for part, column in columns], dim=1)


class DAREModule(ClickModule):
    """Search a history for what bears on the candidate, read what was found, and a head.

    Args:
        attributes: int64[n_items, 2] category and brand codes, 0 for none; a column without any
            is no field.
        settings: of the model.
    """

    kinds: Tensor
    fields: Tensor

    def __init__(self, attributes: NDArray[np.int64], settings: DARESettings) -> None:
        super().__init__()
        self.n_users, self.n_items, self.noise = 0, len(attributes), Noise()
        self.settings, width = settings, settings.width
        padded = np.concatenate([attributes, np.zeros((1, 2), dtype=np.int64)])
        ids = np.arange(self.n_items + 1)[:, None]
        kinds = np.concatenate([ids, padded[:, padded.any(axis=0)]], axis=1)
        self.register_buffer("kinds", torch.from_numpy(padded))
        self.register_buffer("fields", torch.from_numpy(kinds), persistent=False)
        sizes = [int(column.max()) + 1 for column in kinds.T]
        wide, four = settings.attention or width, settings.tables == "four"
        self.read_fields = Fields(sizes, width)
        self.told_fields = Fields(sizes, width) if four else None
        apart = four or settings.tables == "decoupled"
        self.asked_fields = Fields(sizes, wide) if apart else None
        self.asking_fields = Fields(sizes, wide) if four else None
        whole = len(sizes) * width
        self.maps: nn.ModuleList | None = None
        if settings.tables == "projected":
            span = settings.attention or whole
            self.maps = nn.ModuleList(nn.Linear(whole, span, bias=False) for _ in range(2))
        # Row 0 is the candidate's own place, row 1 that of the newest item.
        self.read_place = nn.Embedding(settings.length + 1, _PLACE)
        # None rather than a second name of the same table, which no checkpoint would take.
        self.asked_place = nn.Embedding(settings.length + 1, _PLACE) if apart else None
        for table in (self.read_place, self.asked_place):
            if table is not None:
                nn.init.normal_(table.weight, std=_START)
        self.head = head((3 if settings.product else 2) * (whole + _PLACE), settings.dropout,
                         self.noise)  # fmt: skip

    def tables(self) -> Tables:
        """What items are to the search and to the reading."""
        kinds = self.fields
        read: Tensor = self.read_fields(kinds)
        told = self.told_fields(kinds) if self.told_fields is not None else read
        if self.maps is not None:
            asking, asked = (one(read) for one in self.maps)
            return Tables(asking, asked, told, read)
        asked = self.asked_fields(kinds) if self.asked_fields is not None else read
        asking = self.asking_fields(kinds) if self.asking_fields is not None else asked
        return Tables(asking, asked, told, read)

    def scores(self, items: Tensor, history: Tensor, places: Tensor, tables: Tables) -> Tensor:
        """How each item of a history bears on the candidate; places count on their own.

        Args:
            items: int64[m].
            history: int64[m, l], n_items where there is none.
            places: int64[m, l], from 1, the newest; 0 where there is none.
            tables: of all items.

        Returns:
            float32[m, l], -inf where there is none.
        """
        asking = nn.functional.embedding(items, tables.asking)
        asked = nn.functional.embedding(history, tables.asked)
        found = torch.bmm(asked, asking[:, :, None])[:, :, 0] * asking.shape[1] ** -0.5
        when = (self.read_place if self.asked_place is None else self.asked_place).weight
        found = found + ((when @ when[0]) * _PLACE**-0.5)[places]
        return found.masked_fill(places == 0, -torch.inf)

    @torch.no_grad()
    def search(self, pairs: Pairs, tables: Tables) -> tuple[Tensor, Tensor]:
        """The items of each history that are read.

        Returns:
            int64[m, k] columns of the history, and int64[m, k] their places; a place of 0 is none.
        """
        known = pairs.history < self.n_items
        places = known.sum(1, keepdim=True) - torch.arange(known.shape[1], device=known.device)
        places = places.masked_fill(~known, 0)
        if self.settings.search == "category":
            same = self.kinds[pairs.history, 0] == self.kinds[pairs.items, 0][:, None]
            places = places.masked_fill(~same, 0)
            found = -places.double().masked_fill(places == 0, torch.inf)
        elif known.shape[1] <= self.settings.keep:
            # Nothing to leave out.
            return torch.arange(known.shape[1], device=known.device).expand_as(places), places
        else:
            found = self.scores(pairs.items, pairs.history, places, tables)
        columns = found.topk(min(self.settings.keep, known.shape[1]), dim=1).indices
        return columns, places.gather(1, columns)

    def attend(self, pairs: Pairs, tables: Tables) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Search, then weigh what was found; nothing flows through which items those are.

        Returns:
            float32[m, k] weights that add up to 1, or 0 where nothing was found; int64[m, k]
            items; int64[m, k] places; int64[m, k] columns of the history.
        """
        columns, places = self.search(pairs, tables)
        items = pairs.history.gather(1, columns)
        scores = self.scores(pairs.items, items, places, tables)
        none = places == 0
        weights = scores.masked_fill(none, torch.finfo(scores.dtype).min).softmax(1)
        return weights.masked_fill(none, 0.0), items, places, columns

    def read(self, pairs: Pairs, tables: Tables) -> tuple[Tensor, Tensor]:
        """float32[m, d] candidates, and float32[m, d] histories as they bear on them."""
        weights, items, places, _ = self.attend(pairs, tables)
        history = nn.functional.embedding(items, tables.read)
        pooled = torch.cat([history, self.read_place(places)], dim=2)
        told = nn.functional.embedding(pairs.items, tables.told)
        own = self.read_place.weight[0].expand(len(told), -1)
        return torch.cat([told, own], dim=1), torch.bmm(weights[:, None], pooled)[:, 0]

    def logits(self, pairs: Pairs) -> Tensor:
        """float32[m]."""
        return self.logits_by(pairs, self.tables())

    def logits_by(self, pairs: Pairs, tables: Tables) -> Tensor:
        """float32[m], by tables that are given."""
        told, pooled = self.read(pairs, tables)
        parts = [told, pooled, told * pooled] if self.settings.product else [told, pooled]
        out: Tensor = self.head(torch.cat(parts, dim=1))[:, 0]
        return out


class DARE(PairRanker):
    """DARE (S076): a click model of long histories whose search and reading share no vectors.

    Feng et al., ICLR 2025, sections 3 and 4. The ``keep`` items of a history that score best
    against the candidate are found and weighed by one table of vectors, read by another, and the
    head is told candidate, weighed history and their product. The vectors of the search may be
    much smaller (``attention``). Users are not read, so strangers are answered alike.

    We depart from it where negatives are uniform, places stand for times, PReLU for Dice, and
    training is that of every click ranker here; there is no auxiliary loss.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights, batches and negatives.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`DARESettings`.
    """

    name = "dare"
    module: DAREModule
    settings: DARESettings
    settings_type = DARESettings
    reads = frozenset({"history", "candidates"})

    def _build(self, split: Split) -> DAREModule:
        return DAREModule(attributes(split.dataset.items), self.settings)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> DAREModule:
        kinds: NDArray[np.int64] = weights["kinds"][:-1].numpy()
        if len(kinds) != dataset.n_items:
            raise ValueError(f"weights of {len(kinds)} items")
        return DAREModule(kinds, self.settings)

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], those that are read."""
        with torch.no_grad():
            table: NDArray[np.float32] = self.module.tables().read[:-1].cpu().numpy()
        return table
