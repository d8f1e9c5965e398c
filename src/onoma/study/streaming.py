"""``onoma study streaming``: what clusters that follow the log hold of an exact search."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma import encoding, indexing
from onoma.dataset import Split, split
from onoma.dataset.files import write_text
from onoma.dataset.load import load
from onoma.encoding.base import unit_rows
from onoma.encoding.cooccurrence import interactions
from onoma.errors import OnomaError
from onoma.indexing.streaming import StreamingIndex, StreamingNames

SETTINGS: dict[str, dict[str, float]] = {
    "plain": {"balance": 0.0, "beta": 0.0},
    "balanced": {"balance": 0.6, "beta": 0.25},
}
ENCODER = {"name": "collaborative", "dim": 32}  # as wide as a retriever's towers
TOP = 100
NEW = 100  # items that the clusters and their log do not hold, and that arrive later
CLUSTER = 24  # items a cluster, on average


def streaming(
    data: str,
    out: str | Path,
    *,
    encoder: Any = ENCODER,
    share: float = 0.1,
    users: int = 500,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Let the training log go by twice, with and without balance, and ask for what users like.

    A query is the sum of the vectors of what a user has; the exact answer is its ``TOP`` nearest
    items by inner product. Then ``NEW`` items, held out of a third build and of its log, arrive
    with one batch of events, and each is asked for by its own vector.

    Args:
        data: as for :func:`onoma.run.run`.
        out: ``streaming.json`` goes here.
        encoder: as for :func:`onoma.encoding.build`.
        share: of the items that a query may score.
        users: queries.
        seed: of the clusters, the users and the new items.
        tell: called with a line after each setting.

    Returns:
        ``dataset``, ``encoder``, ``rows`` (a setting each: ``agreement`` with the exact answer,
        ``crowd``, the largest cluster by the mean one), ``new`` (the share ``found``, ``seconds``
        an item, and the share found in an index of the last build, ``before`` it is built again
        and when it is ``rebuilt``) and ``acceptance`` as
        :func:`onoma.study.quantisers.acceptance` has it.

    Raises:
        OnomaError: a share outside (0, 1], or too few items with vectors.
    """
    if not 0 < share <= 1:
        raise OnomaError(f"share is {share}; it must be above 0 and at most 1", where="study")
    parts = split(load(data))
    vectors = unit_rows(encoding.cached(encoding.build(encoder), parts))
    told = np.flatnonzero(vectors.any(axis=1))
    if len(told) < 4 * NEW:
        raise OnomaError(f"{len(told)} items have a vector; {4 * NEW} are needed", where=str(data))
    size, budget = max(2, len(told) // CLUSTER), max(1, int(share * len(told)))
    rng = np.random.default_rng(seed)
    asking = parts.train.take(rng.permutation(len(parts.train))[:users])
    queries = np.asarray(interactions(asking, len(vectors)) @ vectors, dtype=np.float32)
    top = min(TOP, len(told))
    exact = np.argpartition(-(queries @ vectors[told].T), top - 1, axis=1)[:, :top]
    rows = []
    for name, settings in SETTINGS.items():
        way = indexing.build("streaming", size=size, **settings)
        stream = StreamingIndex.resume(way.build(parts, vectors, seed))
        found = stream.probe(queries, budget)
        crowd = np.bincount(stream.cluster[told], minlength=size)
        row = {
            "setting": name,
            **settings,
            "agreement": _agreement(told[exact], found),
            "crowd": float(crowd.max() / crowd.mean()),
        }
        rows.append(row)
        tell(f"{name}: agreement {row['agreement']:.4f}, largest cluster {row['crowd']:.1f} x mean")
    result = {
        "dataset": {"name": parts.dataset.name, "items": len(vectors), "hash": parts.dataset.hash},
        "encoder": encoder,
        "clusters": size,
        "share": share,
        "users": len(queries),
        "seed": seed,
        "rows": rows,
        "new": _arrivals(parts, vectors, rng.choice(told, NEW, replace=False), size, share, seed),
    }
    result["acceptance"] = acceptance(result)
    Path(out).mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", Path(out) / "streaming.json")
    return result


def acceptance(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What S062 asks, beside what was measured; rows as those of the quantisers."""
    plain, even = result["rows"]
    new, percent = result["new"], f"{result['share']:.0%}"
    fall = 1 - even["crowd"] / plain["crowd"]
    lost = plain["agreement"] - even["agreement"]
    asked = (
        (f"{percent} of the items scored: agreement with the exact top {TOP} at least 0.95",
         f"{even['agreement']:.4f}", even["agreement"] >= 0.95),
        ("balance lowers the largest cluster, by the mean one, by at least 25 %",
         f"{plain['crowd']:.1f} to {even['crowd']:.1f}, {fall:.0%}", fall >= 0.25),
        ("balance costs at most one point of agreement", f"{100 * lost:+.2f} points",
         lost <= 0.01),
        ("a new item, held out until then, is found after its first batch, and in a rebuilt index "
         "not before the rebuild",
         f"{new['found']:.0%} of {NEW}; rebuilt {new['before']:.0%}, then {new['rebuilt']:.0%}",
         new["found"] >= 0.95 and new["before"] == 0),
        ("under 10 ms to attach a new item", f"{1e3 * new['seconds']:.3f} ms",
         new["seconds"] < 0.01),
    )  # fmt: skip
    return [{"system": "S062", "asked": a, "measured": m, "holds": h} for a, m, h in asked]


def _agreement(exact: NDArray[np.integer], found: NDArray[np.integer]) -> float:
    """Share of the exact answers that are among the items to be scored."""
    pairs = zip(exact, found, strict=True)
    return float(np.mean([np.isin(e, f, assume_unique=True).mean() for e, f in pairs]))


def _arrivals(
    parts: Split,
    vectors: NDArray[np.float32],
    new: NDArray[np.integer],
    size: int,
    share: float,
    seed: int,
) -> dict[str, float]:
    """Items that neither clusters nor log have met arrive: who finds them, and what it takes."""
    old = np.setdiff1d(np.arange(len(vectors)), new)
    order = np.concatenate([old, new])  # in which items are known
    number = np.empty(len(vectors), dtype=np.int64)
    number[order] = np.arange(len(order))
    events = number[parts.train.values[np.argsort(parts.train_times, kind="stable")]]
    even = SETTINGS["balanced"]
    way = StreamingNames(size=size, balance=even["balance"], beta=even["beta"])
    codes, arriving = np.arange(len(old), len(vectors)), vectors[new]
    budget = max(1, int(share * len(vectors)))

    def built(known: int) -> StreamingIndex:
        names = way.name_log(vectors[order[:known]], events[events < known], seed)
        return StreamingIndex.resume(names)

    def found(stream: StreamingIndex) -> float:
        answers = stream.probe(arriving, budget)
        return float((answers == codes[:, None]).any(axis=1).mean())

    stream = built(len(old))
    before = found(stream)
    began = time.perf_counter()
    stream.observe(codes, arriving)
    seconds = (time.perf_counter() - began) / len(new)
    return {
        "found": found(stream), "seconds": seconds, "before": before,
        "rebuilt": found(built(len(order))),
    }  # fmt: skip
