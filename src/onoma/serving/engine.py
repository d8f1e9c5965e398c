"""Turns questions in the owner's ids into answers: histories, masks, the recommender, titles."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.recommenders import Ranking, Requests
from onoma.serving.diversity import spread
from onoma.serving.filters import Node
from onoma.serving.live import Live
from onoma.serving.metrics import Metrics
from onoma.serving.refusals import Conflict
from onoma.serving.view import View

_POOL = 5  # times k items are looked at where variety is asked for


@dataclass(frozen=True, slots=True)
class Query:
    """One question; ids are the owner's.

    Attributes:
        user_id: whose history is read, together with ``history``.
        history: further items, oldest first.
        k: items wanted.
        exclude: items not wanted.
        candidates: rank these only; None for the catalogue.
        where: a parsed filter.
        diversity: see :func:`onoma.serving.diversity.spread`.
        mode: of the recommender; None for its first.
        repeats: whether items of the history may be answered.
        refused: whether items that the user disliked or hid may be answered.
        context: what else is known.
        asked: ``time.perf_counter`` when the question came.
    """

    user_id: str | None = None
    history: tuple[str, ...] = ()
    k: int = 10
    exclude: tuple[str, ...] = ()
    candidates: tuple[str, ...] | None = None
    where: Node | None = None
    diversity: float = 0.0
    mode: str | None = None
    repeats: bool = False
    context: dict[str, Any] = field(default_factory=dict)
    asked: float = 0.0
    refused: bool = False

    @property
    def depth(self) -> int:
        """Items that the recommender is asked for."""
        return self.k * (_POOL if self.diversity > 0 else 1)


@dataclass(slots=True)
class _Ready:
    """A question in codes."""

    place: int
    query: Query
    user: int
    history: NDArray[np.integer]
    times: NDArray[np.int64]
    exclude: NDArray[np.integer]
    candidates: NDArray[np.integer] | None
    mode: str
    fallback: str | None


class Engine:
    """Answers batches on the present :class:`View`.

    Args:
        view: what answers; assign :attr:`view` to change it, batches see one or the other.
        live: what users did.
        metrics: where times go.
    """

    def __init__(self, view: View, live: Live, metrics: Metrics) -> None:
        self.view, self.live, self.metrics = view, live, metrics

    def user(self, view: View, user_id: str | None) -> int:
        """The user code of the data, -1 for strangers and for whom the data must not be read."""
        # A run that has read further than an erasure holds only what came after it.
        if user_id is None or self.live.erased.get(user_id, -1) >= view.through:
            return -1
        return view.past_user.get(user_id, -1)

    def known(
        self, view: View, user_id: str | None, history: Sequence[str] = ()
    ) -> NDArray[np.integer]:
        """Item codes of all that is known of a user and of a bare history after it."""
        return self.timed(view, user_id, history)[0]

    def timed(
        self, view: View, user_id: str | None, history: Sequence[str] = ()
    ) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        """The codes of :meth:`known`, oldest first, and Unix seconds, -1 where unknown."""
        catalogue, user = view.catalogue, self.user(view, user_id)
        items: list[NDArray[np.integer]] = [np.zeros(0, dtype=np.int32)]
        times = [np.zeros(0, dtype=np.int64)]
        if user >= 0:
            items, times = [view.past[user]], [view.times[user].astype(np.int64, copy=False)]
        if user_id is not None and (done := self.live.done(user_id, view.through)):
            done = [(when, item) for when, item in done if item in catalogue.code]
            items.append(catalogue.codes(item for _, item in done))
            times.append(np.array([when for when, _ in done], dtype=np.int64))
        if history:
            items.append(catalogue.codes(history))
            times.append(np.full(len(items[-1]), -1, dtype=np.int64))
        if len(items) == 1:
            return items[0], times[0]
        return np.concatenate(items), np.concatenate(times)

    def unwanted(self, view: View, user_id: str | None, ids: Sequence[str]) -> list[Any]:
        """Arrays of item codes that no answer may hold: withdrawn, disliked, excluded."""
        out: list[Any] = [view.withdrawn]
        if user_id is not None and (disliked := self.live.disliked(user_id)):
            out.append(view.catalogue.codes(disliked))
        if ids:
            out.append(view.catalogue.codes(ids))
        return out

    def answer(self, queries: Sequence[Query]) -> list[dict[str, Any] | Exception]:
        """An answer or an error for each question; see :class:`onoma.serving.batcher.Batcher`."""
        began = time.perf_counter()
        self.live.sync()
        view, stage = self.view, self.metrics.stage
        out: list[dict[str, Any] | Exception | None] = [None] * len(queries)
        groups: dict[tuple[Any, ...], list[_Ready]] = {}
        for place, query in enumerate(queries):
            stage["wait"].observe(began - query.asked)
            try:
                ready = self._ready(view, place, query)
            except OnomaError as error:
                out[place] = error
                continue
            # Whose list of k is no head of a longer list is asked for k.
            headed = view.answers.exact and ready.mode == view.answers.modes[0]
            depth = 0 if headed else query.depth
            key = (ready.mode, ready.fallback, ready.candidates is None, query.repeats, depth)
            groups.setdefault(key, []).append(ready)
        self.metrics.batch.observe(len(queries))
        stage["prepare"].observe(time.perf_counter() - began)
        for (mode, fallback, _, repeats, _), group in groups.items():
            asked = time.perf_counter()
            ranking = self._rank(view, group, mode, fallback, repeats)
            ranked = time.perf_counter()
            stage["model"].observe(ranked - asked)
            for row, ready in enumerate(group):
                out[ready.place] = self._format(
                    view, ready, ranking.items[row], ranking.scores[row]
                )
            stage["format"].observe(time.perf_counter() - ranked)
        assert all(answer is not None for answer in out)
        return out  # type: ignore[return-value]

    def _ready(self, view: View, place: int, query: Query) -> _Ready:
        catalogue = view.catalogue
        mode = view.answers.modes[0] if query.mode is None else query.mode
        if mode not in view.answers.modes:
            raise Conflict(
                f"no mode {mode!r}", where="mode", fix=f"Use {', '.join(view.answers.modes)}"
            )
        history, times = self.timed(view, query.user_id, query.history)
        exclude = self.unwanted(view, None if query.refused else query.user_id, query.exclude)
        candidates = None if query.candidates is None else catalogue.codes(query.candidates)
        if query.where is not None:
            kept = view.kept(query.where)
            if candidates is not None:
                candidates = candidates[kept[candidates]]
            elif 2 * int(kept.sum()) > len(kept):
                exclude.append(np.flatnonzero(~kept).astype(np.int32))
            else:
                candidates = np.flatnonzero(kept).astype(np.int32)
        fallback = None
        if not len(history) and "history" in view.answers.reads:
            fallback = "popular"
        banned = exclude[0] if len(exclude) == 1 else np.concatenate(exclude)
        user = self.user(view, query.user_id)
        return _Ready(place, query, user, history, times, banned, candidates, mode, fallback)

    def _rank(
        self, view: View, group: list[_Ready], mode: str, fallback: str | None, repeats: bool
    ) -> Ranking:
        candidates = None
        if group[0].candidates is not None:
            rows = [ready.candidates for ready in group if ready.candidates is not None]
            width = max(1, max(len(row) for row in rows))
            candidates = np.full((len(rows), width), -1, dtype=np.int32)
            for place, row in enumerate(rows):
                candidates[place, : len(row)] = row
        contexts = [ready.query.context for ready in group]
        history = Ragged.from_rows([ready.history for ready in group])
        requests = Requests(
            history,
            np.array([ready.user for ready in group], dtype=np.int32),
            exclude=Ragged.from_rows([ready.exclude for ready in group]),
            candidates=candidates,
            context=contexts if any(contexts) else None,
            mask_seen=not repeats,
            times=Ragged(history.offsets, np.concatenate([ready.times for ready in group])),
        )
        k = min(max(ready.query.depth for ready in group), len(view.catalogue))
        if fallback == "popular":
            return view.popular.recommend(requests, k)
        return view.answers.recommend(requests, k, mode=mode)

    def _format(
        self,
        view: View,
        ready: _Ready,
        items: NDArray[np.int32],
        scores: NDArray[np.float32],
    ) -> dict[str, Any]:
        query, catalogue = ready.query, view.catalogue
        if query.diversity > 0:
            found = items[: query.k * _POOL]
            found = found[found >= 0]
            order = spread(
                scores[: len(found)], view.space.vectors[found], query.k, query.diversity
            )
            codes, values = found[order].tolist(), scores[order].tolist()
        else:
            codes, values = items[: query.k].tolist(), scores[: query.k].tolist()
        fallback = ready.fallback
        answered = [code for code in codes if code >= 0]
        if fallback is None and view.late:
            known = view.catalogue.base
            if any(code >= known for code in answered) or (ready.history >= known).any():
                fallback = "neighbours"
        if fallback is not None:
            self.metrics.fallbacks.labels(fallback).inc()
        return {
            "request_id": request_id(view),
            "model": view.name,
            "mode": ready.mode,
            "fallback": fallback,
            "items": [
                {
                    "item_id": catalogue.ids[code],
                    "title": catalogue.titles[code],
                    "score": score,
                    "name": name,
                }
                for code, score, name in zip(codes, values, view.names_of(codes), strict=False)
                if code >= 0
            ],
        }


def request_id(view: View) -> str:
    """An id for an answer; it begins with the tag of what answered."""
    return f"{view.tag}-{uuid.uuid4().hex}"
