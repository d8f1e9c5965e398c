"""Training-free rankings that any model must beat before it has shown anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from onoma.dataset import Cases, Ragged, Split
from onoma.errors import OnomaError
from onoma.evaluation.metrics import metrics
from onoma.evaluation.significance import bootstrap_ci
from onoma.evaluation.slices import Transitions, back
from onoma.recommenders.base import Ranking, Requests, top_k

K = 10
MARKOV = "Markov, order 1"
WALK = "graph walk"
MAX_PLUS_ONE = "max+1, ids by first appearance"
_TUNED_ON = 2_000
_SCORES = 400_000_000


class Lags:
    """Counts of steps of one or more lags, popularity below them: Markov chains and skip-grams.

    Ranks what ``markov`` and ``popular`` rank, from the reached items alone, without dense scores.

    With lag 1 alone this is the first-order Markov chain. No lag at all is most-popular.

    Args:
        split: counted on its training part.
        lags: distances counted and asked for, each with weight ``1 / lag``.
    """

    def __init__(self, split: Split, lags: Sequence[int] = (1,)) -> None:
        n = split.dataset.n_items
        self.tables = []
        for lag in lags:
            known = Transitions(split.train, n, lag)
            shape = (known.counts / lag, (known.keys // n, known.keys % n))
            self.tables.append((lag, sp.csr_matrix(shape, shape=(n + 1, n), dtype=np.float32)))
        counts = split.train_counts
        # Below the smallest step of any count: popularity orders what the counts leave equal.
        scale = 0.5 / max((*lags, 1)) / (counts.max() + 1)
        self.fallback = (counts * scale).astype(np.float32)
        self.popular = np.argsort(-self.fallback, kind="stable")

    def recommend(self, requests: Requests, k: int = K, batch: int = 1024) -> Ranking:
        """The k best items of each request, equal to scoring the whole catalogue."""
        forbidden = requests.forbidden().lengths
        reached = sum(
            (np.diff(table.indptr)[back(requests.history, lag)] for lag, table in self.tables),
            np.zeros(len(requests), dtype=np.int64),
        )
        items = np.full((len(requests), k), -1, dtype=np.int32)
        scores = np.full((len(requests), k), -np.inf, dtype=np.float32)
        # Rows that need as many candidates stand together, so that none is padded far.
        order = np.argsort(np.maximum(reached, forbidden), kind="stable")
        for low in range(0, len(order), batch):
            rows = order[low : low + batch]
            part = Requests(
                requests.history.take(rows),
                mask_seen=requests.mask_seen,
                exclude=None if requests.exclude is None else requests.exclude.take(rows),
            )
            ranking = self._rank(part, k, k + int(forbidden[rows].max()))
            items[rows], scores[rows] = ranking.items, ranking.scores
        return Ranking(items, scores)

    def _rank(self, requests: Requests, k: int, depth: int) -> Ranking:
        """Candidates: all items a step leads to, and enough popular ones to fill any list."""
        n = len(requests)
        found = sp.csr_matrix((n, len(self.fallback)), dtype=np.float32)
        for lag, table in self.tables:
            found = found + table[back(requests.history, lag)]  # -1 picks the empty last row
        steps = Ragged(found.indptr.astype(np.int64), found.indices).padded()
        counts = np.zeros(steps.shape, dtype=np.float32)
        counts[steps >= 0] = found.data
        popular = np.broadcast_to(self.popular[:depth], (n, len(self.popular[:depth])))
        items = np.concatenate([steps, popular], axis=1)
        scores = self.fallback[np.maximum(items, 0)]
        scores[:, : steps.shape[1]] += counts
        return top_k(
            torch.from_numpy(scores),
            k,
            forbidden=requests.forbidden(),
            items=torch.from_numpy(items),
        )


def floors(split: Split, shuffled: Sequence[Split] = ()) -> list[dict[str, Any]]:
    """Most popular, Markov and graph walk, on the data as it stands and with ties shuffled.

    Args:
        split: ties in file order.
        shuffled: the same data with ties shuffled, one a seed; the mean of Markov over all of
            them is given, the others are measured on the first.

    Returns:
        One row each: ``name``, ``ties``, ``mask_seen``, ``cases``, ``recall@10``, ``ndcg@10``,
        ``ci95``, and ``recall@10_seeds`` where there were several shuffles.
    """
    rows = [
        _row("most popular", [(split, Lags(split, ()))]),
        _row(MARKOV, [(split, Lags(split))]),
        _row(MARKOV, [(split, Lags(split))], mask_seen=False),
    ]
    if shuffled:
        rows.append(_row("most popular", [(shuffled[0], Lags(shuffled[0], ()))]))
        rows.append(_row(MARKOV, [(one, Lags(one)) for one in shuffled]))
    return [*rows, *_graph_walks([split, *shuffled[:1]])]


def _graph_walks(splits: Sequence[Split]) -> list[dict[str, Any]]:
    """The graph walk, two hops, the rest chosen once on a sample of validation."""
    from onoma.recommenders.baselines.graph import GraphWalk

    rows: list[dict[str, Any]] = []
    chosen: dict[str, Any] = {"hops": 2}  # fewer settings, less chance in the choice
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        for split in splits:
            few = np.sort(rng.permutation(len(split.valid))[:_TUNED_ON])
            try:
                model = GraphWalk(**chosen, cache=folder).fit(
                    replace(split, valid=split.valid.take(few))
                )
            except OnomaError:
                return rows
            chosen = dict(model.training["chosen"])
            most = max(1, _SCORES // split.dataset.n_items)
            asked = np.sort(rng.permutation(len(split.test))[:most])
            sample = replace(split, test=split.test.take(asked))
            rows.append({**_row(WALK, [(sample, model)]), "settings": chosen})
    return rows


def _row(name: str, runs: Sequence[tuple[Split, Any]], mask_seen: bool = True) -> dict[str, Any]:
    """One row; several runs are averaged case by case."""
    keys = [f"recall@{K}", f"ndcg@{K}"]
    figures = [measure(model, split.test, mask_seen) for split, model in runs]
    table = np.mean([np.stack([one[key] for key in keys], axis=1) for one in figures], axis=0)
    ends = bootstrap_ci(table, samples=1_000)
    out = {
        "name": name,
        "ties": runs[0][0].ties,
        "mask_seen": mask_seen,
        "cases": len(table),
        **{key: float(mean) for key, mean in zip(keys, table.mean(axis=0), strict=True)},
        "ci95": {key: [float(a), float(b)] for key, (a, b) in zip(keys, ends, strict=True)},
    }
    if len(runs) > 1:
        out[f"{keys[0]}_seeds"] = [float(one[keys[0]].mean()) for one in figures]
    return out


def measure(model: Any, cases: Cases, mask_seen: bool = True) -> dict[str, Any]:
    """Metrics at 10 of anything that recommends."""
    ranking = model.recommend(Requests.of(cases, mask_seen=mask_seen), K)
    return metrics(ranking.items, cases.targets, (K,))


def memory(split: Split, deepest: int = 3) -> dict[str, Any]:
    """How much the items before the last one matter.

    Each lag alone predicts from the item so many places back, with counts of steps of that length;
    then the lags are added up, weighted 1 / lag. All on the cases whose history reaches that deep.

    Returns:
        ``lags`` (``{"lag", "recall@10", "ndcg@10"}`` each), ``together`` (the first 1, 2, 3),
        ``before_last`` (first-order Markov asked with the item before the last one), ``cases``,
        and ``gain``: recall of all lags together over recall of the last item alone, minus 1.
    """
    history = split.test.history
    deep = np.flatnonzero(history.lengths >= deepest)
    if not len(deep):
        return {"lags": [], "together": [], "before_last": None, "gain": 0.0, "cases": 0}
    cases = split.test.take(deep)

    def figures(model: Any, asked: Cases = cases) -> dict[str, float]:
        return {
            key: float(v.mean())
            for key, v in measure(model, asked).items()
            if key in (f"recall@{K}", f"ndcg@{K}")
        }

    alone = [{"lag": lag, **figures(Lags(split, (lag,)))} for lag in range(1, deepest + 1)]
    together = [{"lags": 1, **{k: v for k, v in alone[0].items() if k != "lag"}}]
    together += [
        {"lags": n, **figures(Lags(split, tuple(range(1, n + 1))))} for n in range(2, deepest + 1)
    ]
    # The same question without its last item; what was seen is still masked.
    early = Requests(cases.history.drop_last(1), exclude=cases.history)
    ranking = Lags(split).recommend(early)
    before = metrics(ranking.items, cases.targets, (K,))
    first = alone[0][f"recall@{K}"]
    return {
        "lags": alone,
        "together": together,
        "cases": len(deep),
        "before_last": {key: float(before[key].mean()) for key in (f"recall@{K}", f"ndcg@{K}")},
        "gain": together[-1][f"recall@{K}"] / first - 1 if first else 0.0,
    }
