"""A head over the catalogue against a beam: milliseconds a user, one at a time.

    python benchmarks/head.py --head runs/lite-llm4rec-D --beam runs/tiger-D --data DIR

Both answer the ten best items of the same users, everything warm, item vectors in memory.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from onoma.dataset import split
from onoma.dataset.load import load
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.registry import recommender


def milliseconds(model: Recommender, asked: Requests) -> float:
    """Median over users of one request."""
    model.recommend(asked.slice(0, 1), 10)
    times = []
    for row in range(len(asked)):
        start = time.perf_counter()
        model.recommend(asked.slice(row, row + 1), 10)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", required=True, help="a run that answers by a head")
    parser.add_argument("--beam", required=True, help="a run that answers by a beam")
    parser.add_argument("--data", required=True, help="the data of both")
    parser.add_argument("--sample", type=int, default=200, help="users")
    args = parser.parse_args()
    parts = split(load(args.data))
    rows = np.linspace(0, len(parts.test) - 1, args.sample).astype(np.int64)
    asked = Requests.of(parts.test.take(rows))
    answer = {}
    for label, run in (("head", args.head), ("beam", args.beam)):
        name = Recipe.load(f"{run}/recipe.yaml").recommender["name"]
        answer[f"ms_{label}"] = milliseconds(recommender(name).load(run, parts.dataset), asked)
    answer["times_faster"] = answer["ms_beam"] / answer["ms_head"]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
