"""A run that is served: the view that answers, the store behind it, and what keeps them in step."""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from onoma.serving.batcher import Batcher
from onoma.serving.catalogue import SINCE, since
from onoma.serving.engine import Engine, Query
from onoma.serving.keys import Keyring
from onoma.serving.live import Live
from onoma.serving.metrics import Metrics
from onoma.serving.options import Options
from onoma.serving.refusals import Conflict, Missing
from onoma.serving.store import Record, open_store
from onoma.serving.talk import Talker, Templates
from onoma.serving.view import View

_log = logging.getLogger(__name__)
_TURN = 0.0005  # seconds
_POLL = 0.25  # seconds between looks at what other processes changed


class Service:
    """Everything one process needs to answer.

    Events are read from the store at the beginning of every batch. Items, users, keys and the
    choice of the model are followed by a thread of their own, because taking them may take long
    (a text is encoded, a model is loaded); who changes them here waits until they are taken.

    Args:
        options: see :class:`Options`.
        talker: who answers dialogues; templates unless told.

    Raises:
        OnomaError: the run or the store cannot be opened.
    """

    def __init__(self, options: Options, talker: Talker | None = None) -> None:
        import torch

        torch.set_num_threads(options.threads)
        self.options = options
        self.root = Path(options.run)
        self.metrics = Metrics()
        self.talker: Talker = talker or Templates()
        self.keys = Keyring()
        self.previous: str | None = None
        self._following = threading.RLock()
        self._seen = {"items": 0, "users": 0, "keys": 0}
        self._followed: object = None
        self._chosen = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.store = open_store(options.store)
        self.live = Live(self.store)
        view = View.load(self._first_path(), self.store.id)
        self.engine = Engine(view, self.live, self.metrics)
        self.batcher: Batcher[Query, dict[str, Any]] = Batcher(
            self.engine.answer,
            options.batch,
            options.queue,
            # MKL counts threads for each calling thread: the one above says nothing of this one.
            partial(torch.set_num_threads, options.threads),
        )
        self.live.sync()
        self.follow()

    @property
    def view(self) -> View:
        """What answers now."""
        return self.engine.view

    def start(self) -> None:
        """Follow what other processes change, and load what only new items need."""
        # The thread that answers and the one that talks to clients take turns of a millisecond
        # of work; Python's own five would be most of a request's time.
        sys.setswitchinterval(_TURN)
        self._thread = threading.Thread(target=self._run, name="onoma-follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish what was begun."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.batcher.close()
        self.store.close()

    def follow(self) -> None:
        """Take what changed in the store: items, users, keys, the model."""
        with self._following:
            version = self.store.version()
            if version == self._followed:
                return
            self._choose()
            for record in self._new("users"):
                if "erased" in record.data:
                    self.live.erase(record.id, record.data["erased"])
            self.keys.update(self._new("keys"))
            items = self._new("items")
            if items:
                view = self.view
                if view.origin is not None and view.moves(items):
                    view, items = view.origin, self.store.records("items")
                self.engine.view = view.changed(items)
            catalogue = self.view.catalogue
            self.metrics.items.set(len(catalogue) - int(catalogue.gone.sum()))
            self._followed = version

    def put(self, table: str, records: list[Record]) -> None:
        """Keep records, and take them before the call returns."""
        with self._following:
            if table == "items":
                records = self._in_place(records)
            self.store.put(table, records)
            self.follow()

    def erase(self, user_ids: list[str]) -> int:
        """Delete the events of users and never read their past again."""
        self.live.sync()
        count = self.store.forget(user_ids)
        upto = self.live.seen
        self.put("users", [Record(u, {"erased": upto}, gone=True) for u in user_ids])
        return count

    def available(self) -> list[str]:
        """Names of the finished runs beside the one that was started."""
        beside = self.root.resolve().parent
        return sorted(
            path.parent.name
            for path in beside.glob("*/metrics.json")
            if (path.parent / "recipe.yaml").is_file() and not path.parent.name.startswith(".")
        )

    def swap(self, name: str) -> View:
        """Put another run in the place of this one, here and in every process of the service.

        Requests are answered by the old one until the new one is loaded.

        Raises:
            OnomaError: there is no such finished run beside the first, or it cannot be loaded.
        """
        if name not in self.available():
            raise Missing(f"no finished run {name!r} beside {self.root.name}", where="swap")
        with self._following:
            before = self.view.name
            self._take(name)
            choice = {"root": str(self.root.resolve()), "run": name, "previous": before}
            self.store.put("settings", [Record(self._setting, choice)])
            self.previous = before
            self._chosen = max(r.seq for r in self.store.get("settings", [self._setting]))
            return self.view

    def restore(self) -> View:
        """Put the model before this one back.

        Raises:
            OnomaError: there was none.
        """
        if self.previous is None:
            raise Conflict("no model was here before this one", where="restore")
        return self.swap(self.previous)

    @property
    def _setting(self) -> str:
        return f"model:{self.root.resolve()}"

    def _first_path(self) -> Path:
        """The run that was swapped in last, where it is still there."""
        for record in self.store.get("settings", [self._setting]):
            path = self.root.resolve().parent / str(record.data["run"])
            self._chosen = record.seq
            if (path / "metrics.json").is_file():
                self.previous = record.data.get("previous")
                return path
        return self.root

    def _choose(self) -> None:
        for record in self.store.get("settings", [self._setting]):
            if record.seq > self._chosen:
                self._chosen = record.seq
                self.previous = record.data.get("previous")
                if record.data["run"] != self.view.name:
                    self._take(str(record.data["run"]))

    def _take(self, name: str) -> None:
        fresh = View.load(self.root.resolve().parent / name, self.store.id)
        fresh = fresh.changed(self.store.records("items"))
        self.engine.view = fresh
        self.metrics.swaps.inc()

    def _in_place(self, records: list[Record]) -> list[Record]:
        """Items with the number of their first change, which the store replaces by the last."""
        had = {r.id: since(r) for r in self.store.get("items", [r.id for r in records])}
        return [
            replace(r, data={**r.data, SINCE: had[r.id]}) if r.id in had else r for r in records
        ]

    def _new(self, table: str) -> list[Record]:
        records = self.store.records(table, self._seen[table])
        if records:
            self._seen[table] = records[-1].seq
        return records

    def _run(self) -> None:
        self.view.space.words("warm")
        _ = self.view.texts.bm25
        while not self._stop.wait(_POLL):
            try:
                self.live.sync()
                self.follow()
            except Exception:
                _log.exception("the store could not be followed; trying again")
