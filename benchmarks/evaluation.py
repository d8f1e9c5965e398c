"""Metrics of 10,000 users x 50 answers, ours beside pytrec-eval's, equal to 1e-9.

    python benchmarks/evaluation.py

The same five metrics at the same cut-offs; pytrec-eval is also given its dictionaries for free.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from onoma.dataset import Ragged
from onoma.evaluation.metrics import metrics

KS = (1, 5, 10, 50)
TREC = {
    "ndcg": "ndcg_cut",
    "recall": "recall",
    "map": "map_cut",
    "precision": "P",
    "hit_rate": "success",
}


def best_of(n: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Shortest time of n and the last answer."""
    times, answer = [], None
    for _ in range(n):
        began = time.perf_counter()
        answer = work()
        times.append(time.perf_counter() - began)
    return min(times), answer


def main() -> None:
    """Print both times and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=50)
    parser.add_argument("--items", type=int, default=20_000)
    args = parser.parse_args()
    import pytrec_eval

    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(args.items)[: args.answers] for _ in range(args.users)])
    targets = Ragged.from_rows(
        [np.unique(np.append(rng.choice(row, 2), rng.integers(0, args.items, 3))) for row in items]
    )
    mine, found = best_of(5, lambda: metrics(items, targets, KS))
    judgements = {str(u): {str(i): 1 for i in targets[u]} for u in range(args.users)}
    run = {
        str(u): {str(i): float(-rank) for rank, i in enumerate(row)} for u, row in enumerate(items)
    }
    cuts = ",".join(map(str, KS))
    measure = pytrec_eval.RelevanceEvaluator(judgements, {f"{m}.{cuts}" for m in TREC.values()})
    theirs, expected = best_of(5, lambda: measure.evaluate(run))
    worst = max(
        abs(found[f"{name}@{k}"][u] - expected[str(u)][f"{trec}_{k}"])
        for name, trec in TREC.items()
        for k in KS
        for u in range(args.users)
    )
    print(f"{args.users:,} users x {args.answers} answers, 5 metrics at {KS}")
    print(f"onoma        {mine * 1e3:8.1f} ms")
    print(f"pytrec-eval  {theirs * 1e3:8.1f} ms: {theirs / mine:.1f} times ours")
    print(f"largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
