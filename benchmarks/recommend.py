"""One history in, ten items out, at 20,000 items: milliseconds after warm-up.

    python benchmarks/recommend.py

A flagship of the recipe's size, trained for an epoch (weights do not change the time), answers
bare histories one at a time, in each of its modes, and SASRec beside it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import polars as pl

from onoma import Recipe
from onoma.dataset import Dataset, Ragged, split
from onoma.recommenders.base import Recommender, Requests
from onoma.run import build


def synthetic(items: int, seed: int = 0) -> Dataset:
    """A catalogue with titles and just enough of a log to train a step on."""
    rng = np.random.default_rng(seed)
    words = np.array([f"word{i}" for i in range(2000)])
    ids = np.array([f"i{i}" for i in range(items)])
    titles = [" ".join(words[rng.integers(0, 2000, 6)]) for _ in range(items)]
    n = 2 * items
    log = {
        "user_id": [f"u{i // 8}" for i in range(n)],
        "item_id": np.concatenate([rng.permutation(ids), rng.choice(ids, n - items)]),
        "timestamp": np.arange(n),
    }
    return Dataset.construct(
        pl.DataFrame(log), pl.DataFrame({"item_id": ids, "title": titles}), name="synthetic"
    )


def milliseconds(model: Recommender, mode: str, items: int, calls: int) -> tuple[float, float]:
    """Median and 99th percentile of single requests."""
    rng = np.random.default_rng(1)
    times = []
    for call in range(calls + 20):
        request = Requests(Ragged.from_rows([rng.integers(0, items, int(rng.integers(3, 50)))]))
        began = time.perf_counter()
        model.recommend(request, 10, mode=mode)
        if call >= 20:
            times.append((time.perf_counter() - began) * 1e3)
    return float(np.median(times)), float(np.percentile(times, 99))


def main() -> None:
    """Print one line a mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=300)
    args = parser.parse_args()
    parts = split(synthetic(args.items))
    short = ["recommender.train.epochs=1", "recommender.train.batch_tokens=8192"]
    for name, more in (("sasrec", []), ("flagship", ["recommender.encoder={name: tfidf}"])):
        model = build(Recipe.load(name, short + more), quiet=True).fit(parts)
        for mode in model.modes:
            middle, slow = milliseconds(model, mode, args.items, args.calls)
            print(f"{name:<9} {mode:<19} {middle:6.2f} ms median, {slow:6.2f} ms 99th percentile "
                  f"({args.items:,} items)")  # fmt: skip


if __name__ == "__main__":
    main()
