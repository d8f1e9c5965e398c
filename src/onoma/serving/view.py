"""Everything that answers a request, in one state: changes make another and take its place."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel

from onoma.dataset import Dataset, Ragged
from onoma.dataset.split import ordered
from onoma.encoding.text import FIELDS
from onoma.errors import OnomaError
from onoma.recommenders import Recommender
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.neighbours import LikeNeighbours
from onoma.run import open_run
from onoma.serving.catalogue import Catalogue, since
from onoma.serving.filters import Node, mask
from onoma.serving.space import Space
from onoma.serving.store import Record
from onoma.serving.texts import Texts

_log = logging.getLogger(__name__)
_FILTERS = 64  # masks that are kept
REFRESH = "refresh.json"  # in a run that was trained from a store: which, and how far


@dataclass(frozen=True)
class View:
    """A loaded run and the catalogue around it.

    Attributes:
        name: of the run directory.
        path: the run directory.
        tag: of this loading, the beginning of every ``request_id`` it answers.
        model: the fitted recommender, as loaded or extended.
        answers: what is asked: the model, or a wrapper that adds the new items it cannot take.
        popular: answers those of whom nothing is known.
        catalogue: the items.
        space: their content vectors.
        texts: their words.
        past: a row of item codes a user of the data, oldest first.
        times: rows aligned with ``past``, int64 Unix seconds, -1 where unknown.
        past_user: user ids to rows of ``past``, which are user codes of the model.
        through: events of the store up to this number are in the data already.
        origin: this view as it was loaded, where the catalogue has changed since.
        order: of new items, the numbers of the changes that first told of them.
    """

    name: str
    path: Path
    tag: str
    model: Recommender
    answers: Recommender
    popular: Recommender
    catalogue: Catalogue
    space: Space
    texts: Texts
    past: Ragged
    times: Ragged
    past_user: dict[str, int]
    through: int
    origin: View | None = field(default=None, repr=False)
    order: dict[str, int] = field(default_factory=dict, repr=False)
    _masks: dict[Node, NDArray[np.bool_]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, path: str | Path, store: str | None = None) -> View:
        """Open a run directory.

        Args:
            path: of it.
            store: id of the store whose events come on top of the data.

        Raises:
            OnomaError: it holds no finished run.
        """
        run = open_run(path)
        dataset, model = run.dataset, run.recommender
        past, times = history_of(dataset)
        users = {name: row for row, name in enumerate(dataset.users["user_id"].to_list())}
        counts = np.bincount(past.values, minlength=dataset.n_items)
        name = run.path.resolve().name
        return cls(
            name,
            run.path,
            uuid.uuid4().hex[:8],
            model,
            model,
            MostPopular.of(counts),
            Catalogue.of(dataset),
            Space.of(model, dataset.items),
            Texts(dataset.items),
            past,
            times,
            users,
            read_through(run.path, store),
        )

    @cached_property
    def made(self) -> int:
        """When the run was finished, in Unix seconds."""
        return int((self.path / "metrics.json").stat().st_mtime)

    @property
    def late(self) -> bool:
        """Whether new items are answered by likeness, because the model takes none."""
        return isinstance(self.answers, LikeNeighbours)

    @cached_property
    def withdrawn(self) -> NDArray[np.int32]:
        """int32[m], codes that no answer may hold."""
        return np.flatnonzero(self.catalogue.gone).astype(np.int32)

    @cached_property
    def likeness(self) -> NDArray[np.float32]:
        """float32[n_items, d] unit rows: what the model finds alike, or else what reads alike."""
        vectors = None if self.late else self.answers.item_vectors()
        if vectors is None:
            return self.space.vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

    @cached_property
    def names(self) -> NDArray[np.int32] | None:
        """int32[n_items, depth], the items' names; None where the model gives none."""
        index = getattr(self.model, "index", None)
        return None if index is None else index.codes

    def name_of(self, code: int) -> list[int] | None:
        """The name of an item, where it has one."""
        if self.names is None or code >= len(self.names):
            return None
        return [part for part in self.names[code].tolist() if part >= 0]

    def names_of(self, codes: Sequence[int]) -> list[list[int] | None]:
        """:meth:`name_of` of several items; anything for codes below zero."""
        if self.names is None or not codes or max(codes) >= len(self.names):
            return [self.name_of(code) for code in codes]
        return [
            name if name[-1] >= 0 else [part for part in name if part >= 0]
            for name in self.names[codes].tolist()
        ]

    def kept(self, node: Node) -> NDArray[np.bool_]:
        """bool[n_items] of a filter expression.

        Raises:
            OnomaError: the catalogue's columns do not allow it.
        """
        known = self._masks.get(node)
        if known is None:
            if len(self._masks) >= _FILTERS:
                self._masks.clear()
            known = self._masks[node] = mask(node, self.catalogue.table)
        return known

    @cached_property
    def placing(self) -> frozenset[str]:
        """Columns that may decide where a new item stands: in texts, or named by the settings."""
        settings = getattr(self.model, "settings", None)
        named = _words(settings.model_dump()) if isinstance(settings, BaseModel) else ()
        return frozenset({*FIELDS, *getattr(self.space.encoder, "fields", ()), *named})

    def moves(self, records: list[Record]) -> bool:
        """Whether :attr:`origin` must take all items again: this view cannot take these alone.

        The names of new items depend on each other, and on their order; a column that the data
        lacks has the type of all that was said.
        """
        if self.origin is None:
            return False
        catalogue, base = self.catalogue, self.origin.catalogue
        rows = base.rows([_row(record) for record in records])
        if any(
            kind != catalogue.table.schema.get(name, kind)
            for name, kind in rows.schema.items()
            if name not in base.table.columns
        ):
            return True
        again = [record for record in records if record.id in self.order]
        if not again:
            return False
        if any(self.order[record.id] != since(record) for record in again):
            return True
        rows = catalogue.rows([_row(record) for record in again])
        read = [name for name in rows.columns if name in self.placing]
        if not set(read) <= set(catalogue.table.columns):
            return True
        before = catalogue.table[catalogue.codes(rows["item_id"])]
        return not rows.select(read).equals(before.select(read))

    def changed(self, records: list[Record]) -> View:
        """With the items that were put or withdrawn; see :meth:`moves`."""
        if not records:
            return self
        latest = {record.id: record for record in sorted(records, key=since)}
        order = {name: since(r) for name, r in latest.items() if name not in self.catalogue.code}
        fresh = [_row(latest[name]) for name in order]
        known = [_row(record) for name, record in latest.items() if name not in order]
        # Without what this state has worked out, which can be large.
        origin = self.origin or replace(self, texts=Texts(self.catalogue.table), _masks={})
        view = replace(self, origin=origin, order={**self.order, **order})
        if known:
            view = view._updated(view.catalogue.rows(known))
        if fresh:
            view = view._extended(view.catalogue.rows(fresh))
        for gone in (False, True):
            ids = [record.id for record in latest.values() if record.gone == gone]
            catalogue = view.catalogue.marked(view.catalogue.codes(ids), gone)
            view = replace(view, catalogue=catalogue, _masks={})
        return view

    def _updated(self, rows: pl.DataFrame) -> View:
        assert self.origin is not None
        catalogue = self.catalogue.updated(rows)
        codes = catalogue.codes(rows["item_id"])
        codes = codes[codes < catalogue.base]  # a new item that moves is taken by the origin
        placed = self.origin.space.placed(codes, catalogue.table[codes])
        space, answers = self.space, self.answers
        if (placed != space.vectors[codes]).any():
            space = space.moved(codes, placed)
            if isinstance(answers, LikeNeighbours):
                known = answers.known
                answers = LikeNeighbours(self.model, space.vectors[:known], space.vectors[known:])
        return replace(
            self, catalogue=catalogue, space=space, answers=answers,
            texts=Texts(catalogue.table), _masks={},
        )  # fmt: skip

    def _extended(self, rows: pl.DataFrame) -> View:
        base = self.space.catalogue
        space = self.space.extended(self.space.place(rows))
        model = self.model
        if not self.late:
            try:
                model = model.extend(base, rows)
            except OnomaError as error:
                _log.warning("new items are answered by likeness: %s", error)
        known = len(self.catalogue) if model is not self.model else self._known_to_model()
        answers = model
        if model is self.model:
            answers = LikeNeighbours(model, space.vectors[:known], space.vectors[known:])
        catalogue = self.catalogue.extended(rows)
        return replace(
            self,
            model=model,
            answers=answers,
            popular=MostPopular.of(
                np.pad(self.popular_counts, (0, rows.height), constant_values=0)
            ),
            catalogue=catalogue,
            space=space,
            texts=Texts(catalogue.table),
            _masks={},
        )

    def _known_to_model(self) -> int:
        return (
            self.answers.known if isinstance(self.answers, LikeNeighbours) else len(self.catalogue)
        )

    @property
    def popular_counts(self) -> NDArray[np.float32]:
        """float32[n_items], interactions in the data."""
        assert isinstance(self.popular, MostPopular)
        return self.popular.counts

    def describe(self) -> dict[str, Any]:
        """For ``/v1/models``."""
        catalogue = self.catalogue
        return {
            "name": self.name,
            "recommender": self.model.name,
            "modes": list(self.model.modes),
            "reads": sorted(self.model.reads),
            "items": len(catalogue),
            "new_items": len(catalogue) - catalogue.base,
            "withdrawn": int(catalogue.gone.sum()),
            "new_items_by": "likeness" if self.late else "the model",
        }


def _row(record: Record) -> dict[str, Any]:
    return {"item_id": record.id, **record.data}


def _words(value: Any) -> Iterator[str]:
    """All strings in a JSON value but the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _words(part)


def history_of(dataset: Dataset) -> tuple[Ragged, Ragged]:
    """All of a log by users: int32 item codes, oldest first, and int64 times, -1 where unknown."""
    log = ordered(dataset, "file", 0)
    items = log["item"].to_numpy().astype(np.int32)
    past = Ragged.from_groups(log["user"].to_numpy(), items, dataset.n_users)
    return past, Ragged(past.offsets, log["when"].to_numpy().astype(np.int64))


def read_through(run: Path, store: str | None) -> int:
    """The number of the last event of a store that a run's data holds; 0 where it holds none.

    Args:
        run: its directory.
        store: the id of the store.
    """
    if not (run / REFRESH).is_file():
        return 0
    about = json.loads((run / REFRESH).read_text("utf-8"))
    # Runs that do not say which store they have read are taken to have read this one.
    return int(about["through"]) if about.get("store", store) == store else 0
