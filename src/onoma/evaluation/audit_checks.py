"""The single checks of the audit: numbers only, judged in :mod:`onoma.evaluation.audit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.dataset import Cases, Dataset, Ragged, Split
from onoma.evaluation.content import cosines
from onoma.evaluation.slices import (
    Transitions,
    back,
    first_targets,
    head_items,
    repeated,
    steps,
)

K = 10
_DAY = 86_400
_WALK_BUDGET = 100_000_000


def identifiers(dataset: Dataset, split: Split) -> dict[str, Any]:
    """What the constant rule "recommend max(history)+1 ... max+10" scores on several numberings.

    Public files often number items by first appearance, test items included, so that the next
    item is often the next number (reported by TIGER's first author for P5).
    """
    everything = dataset.interactions["item"].to_numpy()
    ascending = np.argsort(dataset.item_ids.astype(str), kind="stable")
    numeric = dataset.items["item_id"].cast(pl.Int64, strict=False)
    if not numeric.null_count():
        ascending = np.argsort(numeric.to_numpy(), kind="stable")
    return {
        "first_appearance": _max_plus_one(_by_appearance(everything, dataset.n_items), split.test),
        "first_appearance_in_training": _max_plus_one(
            _by_appearance(split.train.values, dataset.n_items), split.test
        ),
        "owner_order": _max_plus_one(_ranks(ascending), split.test),
        "codes": _max_plus_one(np.arange(dataset.n_items), split.test),
        "chance": min(1.0, K / dataset.n_items),
    }


def _ranks(order: NDArray[np.integer]) -> NDArray[np.int64]:
    out = np.empty(len(order), dtype=np.int64)
    out[order] = np.arange(len(order))
    return out


def _by_appearance(items: NDArray[np.integer], n_items: int) -> NDArray[np.int64]:
    """A number for each code by first place in ``items``; items that never appear come last."""
    found, first = np.unique(items, return_index=True)
    place = np.full(n_items, len(items), dtype=np.int64)
    place[found] = first
    return _ranks(np.argsort(place, kind="stable"))


def _max_plus_one(numbers: NDArray[np.integer], cases: Cases) -> dict[str, float]:
    top = np.maximum.reduceat(numbers[cases.history.values], cases.history.offsets[:-1])
    step = numbers[first_targets(cases)] - top
    hit = (step >= 1) & (step <= K)
    gain = np.where(hit, 1 / np.log2(np.maximum(step, 1) + 1), 0)
    return {
        f"recall@{K}": float(hit.mean()),
        f"ndcg@{K}": float(gain.mean()),
        "exactly_next": float((step == 1).mean()),
    }


def ties(dataset: Dataset, split: Split, shuffled: Sequence[Split]) -> dict[str, Any] | None:
    """How much of the order inside equal timestamps is an accident; None without timestamps.

    ``expected_change`` is exact: with m events at a user's last time, a fair shuffle replaces the
    last item with probability 1 - 1/m. ``changed`` is the mean of the seeded shuffles given.
    ``ascending`` is the share of tied neighbours in ascending order of the owner's ids, one half
    if it means nothing.
    """
    if not shuffled:
        return None
    log = (
        dataset.interactions.select("user", "item", "timestamp")
        .with_columns(when=pl.col("timestamp").forward_fill().over("user").fill_null(-1))
        .sort("user", "when", maintain_order=True)
    )
    user, item, when = (log[name].to_numpy() for name in ("user", "item", "when"))
    rank = _ranks(np.argsort(dataset.item_ids.astype(str), kind="stable"))
    tied = (user[1:] == user[:-1]) & (when[1:] == when[:-1]) & (when[1:] >= 0)
    different = tied & (item[1:] != item[:-1])
    ascending = rank[item[1:]][different] > rank[item[:-1]][different]
    last = np.append(user[1:] != user[:-1], True)
    final = np.full(dataset.n_users, -2)
    final[user[last]] = when[last]
    target = np.full(dataset.n_users, -1)
    target[user[last]] = item[last]
    at_end = (when == final[user]) & (when >= 0)
    m = np.bincount(user[at_end], minlength=dataset.n_users)
    same = np.bincount(user[at_end & (item == target[user])], minlength=dataset.n_users)
    asked = split.test.users
    change = np.where(m > 0, 1 - same / np.maximum(m, 1), 0)[asked]
    before = _targets_by_user(split)
    moved = [int((before != _targets_by_user(other)).sum()) for other in shuffled]
    stamps = dataset.interactions["timestamp"].drop_nulls().to_numpy()
    return {
        "expected_change": float(change.mean()),
        "changed": float(np.mean(moved)) / len(split.test),
        "changed_users": moved,
        "tied_at_the_end": float((m[asked] > 1).mean()),
        "tied_neighbours": float(tied.sum() / max(1, (user[1:] == user[:-1]).sum())),
        "ascending": float(ascending.mean()) if len(ascending) else None,
        "day_stamps": float((stamps % _DAY == 0).mean()) if len(stamps) else 0.0,
    }


def _targets_by_user(split: Split) -> NDArray[np.int64]:
    out = np.full(split.dataset.n_users, -1, dtype=np.int64)
    out[split.test.users] = first_targets(split.test)
    return out


def repeats(split: Split) -> dict[str, float]:
    """How often somebody meets an item again."""
    rows, values = split.train.rows(), split.train.values.astype(np.int64)
    distinct = len(np.unique(rows * split.dataset.n_items + values))
    a, b = steps(split.train)
    return {
        "test": float(repeated(split.test).mean()),
        "valid": float(repeated(split.valid).mean()) if len(split.valid) else 0.0,
        "train": 1 - distinct / max(1, len(values)),
        "in_a_row": float((a == b).mean()) if len(a) else 0.0,
    }


def cold(split: Split) -> dict[str, float]:
    """Targets without or with little training data; ids alone cannot answer the first."""
    counts, head = split.train_counts, head_items(split.train_counts)
    out: dict[str, float] = {}
    for name, cases in (("valid", split.valid), ("test", split.test)):
        seen = counts[first_targets(cases)] if len(cases) else np.ones(1)
        out[name] = float((seen == 0).mean())
        out[f"{name}_below_5"] = float((seen < 5).mean())
        out[f"{name}_median_count"] = float(np.median(seen))
    out["test_tail"] = float(1 - head[first_targets(split.test)].mean()) - out["test"]
    out["catalogue"] = float((counts == 0).mean())
    return out


def time_order(dataset: Dataset, split: Split) -> dict[str, float] | None:
    """Share of the training log that lies after the test target, averaged over cases."""
    last = (
        dataset.interactions.group_by("user")
        .agg(pl.col("timestamp").max())
        .filter(pl.col("timestamp").is_not_null())
    )
    known = np.sort(split.train_times[split.train_times >= 0])
    if not len(known) or not last.height:
        return None
    when = np.full(dataset.n_users, -1, dtype=np.int64)
    when[last["user"].to_numpy()] = last["timestamp"].to_numpy()
    asked = when[split.test.users]
    after = 1 - np.searchsorted(known, asked[asked >= 0], side="right") / len(known)
    return {"training_after_test": float(after.mean()) if len(after) else 0.0}


def branching(split: Split, seed: int = 0) -> dict[str, Any]:
    """The local transition graph: how many ways lead on, and how often the target is near.

    ``reach`` counts, for neighbourhoods of the last item, the mean number of candidates and the
    share of test targets among them (shortcut structure, arXiv 2605.07125).
    """
    n = split.dataset.n_items
    known = Transitions(split.train, n)
    source, target = known.keys // n, known.keys % n
    forward = sp.csr_matrix((np.ones(len(known.keys), np.float32), (source, target)), shape=(n, n))
    both = forward.maximum(forward.T).tocsr()
    degree, total = np.diff(forward.indptr), np.bincount(source, known.counts, minlength=n)
    share = known.counts / total[source]
    entropy = np.bincount(source, -share * np.log2(share), minlength=n)
    used = total > 0
    last, goal = back(split.test.history), first_targets(split.test)
    out: dict[str, Any] = {
        "edges": len(known.keys),
        "seen_once": float((known.counts == 1).mean()) if len(known.keys) else 0.0,
        "successors_mean": float(degree[used].mean()) if used.any() else 0.0,
        "successors_median": float(np.median(degree[used])) if used.any() else 0.0,
        "effective_successors": float(2 ** np.average(entropy[used], weights=total[used]))
        if used.any()
        else 0.0,
        "memorised": float(known.seen(last, goal).mean()),
    }
    # Two steps cost the neighbours' degrees; a dense graph is answered from a sample of cases.
    wide = np.diff(both.indptr)
    work = np.asarray(both @ wide.astype(np.float64))[last]
    allowed = np.random.default_rng(seed).permutation(len(last))
    allowed = allowed[np.cumsum(work[allowed]) <= _WALK_BUDGET]
    allowed = np.sort(allowed if len(allowed) else np.arange(min(1, len(last))))
    reach = [
        {"name": "one step forward", **_reach(forward, last, goal)},
        {"name": "one step either way", **_reach(both, last, goal)},
        {"name": "two steps either way", **_two_steps(both, last[allowed], goal[allowed])},
    ]
    out["reach"], out["walked_cases"] = reach, len(allowed)
    return out


def _reach(
    graph: sp.csr_matrix, last: NDArray[np.integer], goal: NDArray[np.integer]
) -> dict[str, float]:
    return {
        "candidates": float(np.diff(graph.indptr)[last].mean()),
        "targets": float((np.asarray(graph[last, goal]).ravel() > 0).mean()),
    }


def _two_steps(
    graph: sp.csr_matrix, last: NDArray[np.integer], goal: NDArray[np.integer]
) -> dict[str, float]:
    starts, row = np.unique(last, return_inverse=True)
    size, inside = 0.0, np.zeros(len(last), dtype=bool)
    for low in range(0, len(starts), 512):
        part = graph[starts[low : low + 512]]
        near = (part @ graph + part).tocsr()
        mine = np.flatnonzero((row >= low) & (row < low + 512))
        size += float(np.diff(near.indptr)[row[mine] - low].sum())
        inside[mine] = np.asarray(near[row[mine] - low, goal[mine]]).ravel() > 0
    return {"candidates": size / len(last), "targets": float(inside.mean())}


def smoothness(
    split: Split, content: sp.csr_matrix | None, seed: int = 0, most: int = 100_000
) -> dict[str, float] | None:
    """Whether neighbours in a history are alike, against pairs with the targets shuffled.

    ``auc`` is the chance that a true pair is more alike than a shuffled one: one half where
    content says nothing about the next item. None without item text.
    """
    if content is None:
        return None
    rng = np.random.default_rng(seed)
    known = np.diff(content.indptr) > 0

    def alike(a: NDArray[np.integer], b: NDArray[np.integer]) -> tuple[float, float, float]:
        usable = known[a] & known[b] & (a != b)
        a, b = a[usable], b[usable]
        if len(a) < 2:
            return 0.0, 0.0, 0.5
        picks = rng.permutation(len(a))[:most]
        a, b = a[picks], b[picks]
        true, other = cosines(content, a, b), cosines(content, a, rng.permutation(b))
        ordered = np.sort(other)
        below = np.searchsorted(ordered, true, "left") + np.searchsorted(ordered, true, "right")
        return float(true.mean()), float(other.mean()), float(below.mean() / 2 / len(other))

    train = alike(*steps(split.train))
    test = alike(back(split.test.history), first_targets(split.test))
    return {
        "train_cosine": train[0],
        "train_shuffled": train[1],
        "train_auc": train[2],
        "test_cosine": test[0],
        "test_shuffled": test[1],
        "test_auc": test[2],
        "items_with_text": float(known.mean()),
    }


def lengths(sequences: Ragged) -> dict[str, float]:
    """Quantiles of the history lengths."""
    used = sequences.lengths[sequences.lengths > 0]
    low, middle, high = np.quantile(used, [0.1, 0.5, 0.9])
    return {"p10": float(low), "median": float(middle), "p90": float(high)}
