"""How far a ranking leans on what is popular, and what its hits are worth for being rare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.evaluation.metrics import hits
from onoma.evaluation.slices import head_items

FORMULAS = {
    "arp": "mean over lists of the mean training count of their items (Yin et al., 2012)",
    "aplt": "mean over lists of the share of long-tail items; the short head are the fewest items"
    " that make 80 % of training (Abdollahpouri et al., 2017)",
    "aclt": "mean over lists of the number of long-tail items (Abdollahpouri et al., 2019)",
    "pop_rsp": "standard deviation / mean, over short head and long tail, of P(shown | group)"
    " (statistical parity; Zhu et al., 2020)",
    "pop_reo": "the same of P(shown | group, target) (equal opportunity; Zhu et al., 2020)",
    "epc": "mean over cases of sum_r disc(r) (1 - c / max c) for targets / sum_r disc(r),"
    " disc(r) = 1/log2(r+1), c training count (Vargas and Castells, 2011)",
    "efd": "mean over cases of sum_r disc(r) -log2(c / total) for targets / sum_r disc(r),"
    " in bits (Vargas and Castells, 2011)",
}


def popularity(
    items: NDArray[np.integer],
    counts: NDArray[np.integer],
    *,
    k: int,
    history: Ragged | None = None,
    targets: Ragged | None = None,
) -> dict[str, float]:
    """Popularity figures of the first k answers.

    The share of the short head, the normalisation of EPC by the largest count and the groups
    follow S053 and the Elliot library (Anelli et al., SIGIR 2021). Departures: lists without an
    answer are left out of ARP and APLT, and an item that training does not hold counts as the
    rarest one in EFD. Every list is as long as it is: nothing is divided by k.

    Args:
        items: int[n, w] distinct item codes a row, negative for padding.
        counts: int[n_items], interactions of each item in training, never in test.
        k: the cut.
        history: n rows of item codes that were had before, which statistical parity does not
            expect to be shown.
        targets: n rows of item codes, for equal opportunity and for the worth of hits; rows
            without targets are left out of both.

    Returns:
        ``{"arp@k": ..., ...}``, without figures whose input is missing or that are not defined (a
        group that nobody could be shown, or no hits in either group).
    """
    shown = np.asarray(items, dtype=np.int64)[:, :k]
    answered = shown >= 0
    row, column = np.nonzero(answered)
    code, length = shown[row, column], answered.sum(axis=1)
    lists, some = len(shown), length > 0
    if not some.any():
        return {}
    tail = ~head_items(counts)
    long = np.bincount(row, tail[code], minlength=lists)
    sums = np.bincount(row, counts[code], minlength=lists)
    out = {
        f"arp@{k}": float((sums[some] / length[some]).mean()),
        f"aplt@{k}": float((long[some] / length[some]).mean()),
        f"aclt@{k}": float(long.mean()),
    }
    if history is not None:
        seen = _distinct(history)
        possible = np.array([(~tail).sum(), tail.sum()]) * lists - _by_group(seen.values, tail)
        _spread(out, f"pop_rsp@{k}", _by_group(code, tail), possible)
    if targets is not None:
        wanted = _distinct(targets)
        hit = hits(shown, wanted).gains > 0
        _spread(
            out, f"pop_reo@{k}", _by_group(shown[hit], tail), _by_group(wanted.values, tail)
        )  # fmt: skip
        asked = wanted.lengths > 0
        if asked.any() and counts.any():
            discount = np.where(answered, 1 / np.log2(np.arange(shown.shape[1]) + 2.0), 0.0)
            total = discount.sum(axis=1)
            rare = 1 - counts / counts.max()
            free = -np.log2(np.maximum(counts, counts[counts > 0].min()) / counts.sum())
            for name, worth in (("epc", rare), ("efd", free)):
                gained = np.where(hit, discount * worth[np.maximum(shown, 0)], 0.0).sum(axis=1)
                mean = np.divide(gained, total, out=np.zeros(lists), where=total > 0)
                out[f"{name}@{k}"] = float(mean[asked].mean())
    return out


def _by_group(codes: NDArray[np.integer], tail: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64[2], how many of the codes are of the short head and of the long tail."""
    return np.bincount(tail[codes].astype(np.int64), minlength=2)


def _spread(
    out: dict[str, float], key: str, shown: NDArray[np.integer], possible: NDArray[np.integer]
) -> None:
    """Standard deviation over mean of the groups' shares, where it is defined."""
    if (possible > 0).all() and shown.any():
        share = shown / possible
        out[key] = float(share.std() / share.mean())


def _distinct(rows: Ragged) -> Ragged:
    """Each row's codes once."""
    base = int(rows.values.max(initial=0)) + 1
    keys = np.unique(rows.rows() * base + rows.values)
    return Ragged.from_groups(keys // base, keys % base, len(rows))
