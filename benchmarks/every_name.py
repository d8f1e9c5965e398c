"""Every way of naming decodes every test user, with no answer outside the catalogue.

    python benchmarks/every_name.py --data DIR

A small network with drawn weights spells ten items for each test case under the trie of each
index of ``onoma study indexing``, over content vectors without a language model (TF-IDF).
Counts the items that are said to anybody, answers outside the catalogue or
given twice, answers that the user already has, places left empty, and how far the best score is
from the network's own log-probability of that item's whole name (computed without a beam).
Exits with 1 where an answer is outside, given twice or seen before, or a place is empty.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onoma import encoding, indexing
from onoma.dataset import Split, split
from onoma.dataset.load import load
from onoma.errors import MissingColumn
from onoma.evaluation.evaluate import invalid_items
from onoma.indexing import ItemIndex
from onoma.indexing.autoencoder import AutoencodedNames
from onoma.recommenders.base import Requests
from onoma.recommenders.generative.named import NamedSettings
from onoma.recommenders.generative.packed import Packed, PackedModule
from onoma.study.indexing import CONTENT, INDICES

SIZE = {"width": 32, "heads": 2, "length": 20, "depth_width": 32, "depth_blocks": 1, "beam": 10}
K = 10
CHECKED = 32  # users whose scores are computed again without a beam


def named(name: str, parts: Split, epochs: int) -> ItemIndex:
    """The index called ``name``; autoencoders train for a few passes."""
    how = dict(INDICES[name])
    encoder: Any = how.pop("encoder", CONTENT)
    match encoder:
        case list(several):
            encoder = ["tfidf" if one == CONTENT else one for one in several]
        case {"of": of, **rest}:
            encoder = {**rest, "of": "tfidf" if of == CONTENT else of}
        case _:
            encoder = "tfidf" if encoder == CONTENT else encoder
    method = how.pop("method")
    if isinstance(indexing.build(method, **how), AutoencodedNames):
        how["epochs"] = epochs
    return indexing.build(method, **how).build(
        parts, encoding.cached(encoding.build(encoder), parts), seed=0
    )


@torch.no_grad()
def decoded(index: ItemIndex, parts: Split) -> dict[str, float]:
    """Counts over all test cases; see the head of this file."""
    torch.manual_seed(0)
    model = Packed(**SIZE, quiet=True)
    model.index, model.module = index, PackedModule(index, NamedSettings(**SIZE)).eval()
    cases, n = parts.test, parts.dataset.n_items
    requests = Requests(history=cases.history)
    ranking = model.recommend(requests, K, mode="generate")
    seen = sum(
        int(np.isin(row, own).sum()) for row, own in zip(ranking.items, cases.history, strict=True)
    )
    few = Requests(history=cases.history.take(np.arange(min(CHECKED, len(cases)))))
    exact = model.answer(model.last_states(few.history)).numpy()
    best, score = ranking.items[: len(exact), :1], ranking.scores[: len(exact), :1]
    off = np.abs(np.take_along_axis(exact, best, axis=1) - score).max()
    return {
        "users": len(cases),
        "said": len(np.unique(ranking.items)),
        "outside": invalid_items(ranking.items, n),
        "seen": seen,
        "missing": int((ranking.items < 0).sum()),
        "off": float(off),
    }


def main() -> None:
    """Print a line a method and write all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", action="append", choices=list(INDICES))
    parser.add_argument("--epochs", type=int, default=5, help="of methods that train a network")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    parts = split(load(args.data))
    rows, bad = [], 0
    for name in args.method or INDICES:
        began = time.perf_counter()
        try:
            index = named(name, parts, args.epochs)
        except MissingColumn as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        found = decoded(index, parts)
        lengths = (index.codes >= 0).sum(axis=1)
        row = {"index": name, "lengths": [int(lengths.min()), int(lengths.max())], **found}
        row["seconds"] = round(time.perf_counter() - began, 1)
        rows.append(row)
        bad += row["outside"] + row["seen"] + row["missing"]
        print(json.dumps(row), flush=True)
    about = {"data": parts.dataset.name, "hash": parts.dataset.hash, "answers": K, "rows": rows}
    if args.out:
        args.out.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    print(f"{len(rows)} indices, {bad} bad answers")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
