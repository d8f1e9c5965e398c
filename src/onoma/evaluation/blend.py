"""What tags add to a user tower: new categories, the tail, and the control of swapped tags."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onoma.dataset import Cases, Split
from onoma.evaluation.slices import first_targets, head_items
from onoma.recommenders.base import Requests, top_k
from onoma.recommenders.ranking.clicks import attributes
from onoma.recommenders.retrieval.recgpt import RecGPT

BETAS = (1.0, 0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.3, 0.0)
K = 100
TAGS = 30
KEPT = 0.98  # of the recall that the user tower has alone
_CHUNK = 512


def blend_figures(model: RecGPT, split: Split, limit: int = 4000) -> dict[str, Any]:
    """Figures at every share of the user tower, on validation and test; seen items masked.

    Args:
        model: fitted.
        split: its data.
        limit: cases at most, evenly spaced.

    Returns:
        ``chosen``: the share below 1 with the best recall of new categories on validation among
        those that keep 98 % of the user tower's recall there (1 where none does);
        ``valid`` and ``test``: of each share as text ``recall@100``, ``new_recall@100`` (cases
        whose target's most specific category the history does not have), ``tail@100`` (share of
        the shown items that are not head) and the same of ``swapped`` tags, mined from another
        case's history; ``cases``, ``new_cases``; ``tags``: how often the next category is among
        the cores of the first 30 tags, how many different ones these are, and how often it is
        among as many of the most popular ones.
    """
    out: dict[str, Any] = {"k": K}
    for name, cases in (("valid", split.valid), ("test", split.test)):
        if len(cases) > limit:
            cases = cases.take(np.linspace(0, len(cases) - 1, limit).astype(np.int64))
        out[name] = _figures(model, cases, split) if len(cases) else {}
    out["chosen"] = chosen(out["valid"].get("betas", {}))
    return out


def chosen(betas: dict[str, dict[str, float]]) -> float:
    """The share that validation picks, as :func:`blend_figures` says."""
    alone = betas.get("1.0")
    if alone is None:
        return 1.0
    fit = [
        (row["new_recall"], float(beta))
        for beta, row in betas.items()
        if beta != "1.0" and row["recall"] >= KEPT * alone["recall"]
    ]
    return max(fit)[1] if fit and max(fit)[0] > alone["new_recall"] else 1.0


def _figures(model: RecGPT, cases: Cases, split: Split) -> dict[str, Any]:
    targets = first_targets(cases)
    kinds = attributes(split.dataset.items)[:, 0]
    rows = cases.history.rows()
    same = kinds[cases.history.values] == kinds[targets][rows]
    fresh = (np.bincount(rows[same], minlength=len(cases)) == 0) & (kinds[targets] > 0)
    tail = ~head_items(split.train_counts)
    order = np.random.default_rng(0).permutation(len(cases))
    ring = np.empty(len(cases), dtype=np.int64)
    ring[order] = np.roll(order, 1)  # nobody keeps their own
    swapped = cases.history.take(ring)
    hits: dict[str, list[NDArray[np.bool_]]] = {}
    shown: dict[str, list[float]] = {}
    for start in range(0, len(cases), _CHUNK):
        part = np.arange(start, min(start + _CHUNK, len(cases)))
        requests = Requests.of(cases.take(part))
        users, tags = model.parts_of(requests)
        _, wrong = model.parts_of(requests, swapped.take(part), beta=0.0)
        for beta in BETAS:
            for name, told in ((str(beta), tags), (f"swapped {beta}", wrong)):
                mixed = beta * users + (1 - beta) * told
                items = top_k(mixed, K, forbidden=requests.forbidden()).items
                found = (items == targets[part][:, None]).any(1)
                hits.setdefault(name, []).append(found)
                shown.setdefault(name, []).append(float(tail[items[items >= 0]].mean()))
    weights = [min(_CHUNK, len(cases) - start) for start in range(0, len(cases), _CHUNK)]
    table = {}
    for name, parts in hits.items():
        hit = np.concatenate(parts)
        table[name] = {
            "recall": float(hit.mean()),
            "new_recall": float(hit[fresh].mean()) if fresh.any() else 0.0,
            "tail": float(np.average(shown[name], weights=weights)),
        }
    betas = {name: row for name, row in table.items() if "swapped" not in name}
    return {
        "cases": len(cases),
        "new_cases": int(fresh.sum()),
        "betas": betas,
        "swapped": {name.split()[1]: row for name, row in table.items() if "swapped" in name},
        "tags": _tag_hits(model, cases, split, targets),
    }


def _tag_hits(
    model: RecGPT, cases: Cases, split: Split, targets: NDArray[np.int64]
) -> dict[str, float]:
    of_kind = model.facets.of_kind
    mined = model.miner.mine(cases.history)
    cores = torch.from_numpy(mined.kinds[:, :TAGS])
    said = torch.zeros(len(cases), of_kind.shape[1] + 1, dtype=torch.bool)
    said.scatter_(1, cores.masked_fill(cores < 0, of_kind.shape[1]), True)
    told = said[:, :-1].numpy()
    truth = of_kind[targets].toarray() > 0
    known = truth.any(1)
    if not known.any():
        return {"hit@30": 0.0, "kinds": 0.0, "popular": 0.0}
    counts = of_kind.T @ split.train_counts.astype(np.float32)
    many = max(1, round(float(told[known].sum(1).mean())))
    popular = np.zeros(of_kind.shape[1], dtype=bool)
    popular[np.argsort(-counts, kind="stable")[:many]] = True
    return {
        "hit@30": float((told & truth)[known].any(1).mean()),
        "kinds": float(told[known].sum(1).mean()),
        "popular": float((popular & truth)[known].any(1).mean()),
    }
