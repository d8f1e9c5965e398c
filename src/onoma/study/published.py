"""The published table of ways of naming (S001), for ``onoma study indexing`` to stand beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Recall@10 and NDCG@10 of Hua et al., How to Index Item IDs, SIGIR-AP 2023.
_IDS = (
    "random title independent sequential collaborative semantic sequential+iid collaborative+iid "
    "semantic+iid semantic+collaborative"
).split()
_FIGURES = {
    "amazon-sports-2014": ".0288 .0153 0 0 .0386 .0195 .0358 .0216 .0431 .0262 .0406 .0235 "
    ".0339 .0195 .0456 .0270 .0436 .0242 .0070 .0039",
    "amazon-beauty-2014": ".0479 .0277 .0432 .0254 .0615 .0341 .0602 .0368 .0680 .0357 .0652 .0370 "
    ".0603 .0355 .0732 .0427 .0724 .0411 .0545 .0310",
    "yelp-2019": ".0329 .0193 .0086 .0049 .0393 .0197 .0486 .0287 .0428 .0225 .0324 .0170 "
    ".0465 .0280 .0468 .0254 .0382 .0199 .0056 .0029",
}
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    data: {
        name: {"recall@10": float(recall), "ndcg@10": float(ndcg)}
        for name, recall, ndcg in zip(_IDS, row.split()[::2], row.split()[1::2], strict=True)
    }
    for data, row in _FIGURES.items()
}
PROTOCOL = (
    "Published: P5 on T5-small from its pretrained weights, leave-one-out, whole catalogue, beam "
    "of 20 under the trie, no intervals. In four of seven of its logs that could be "
    "checked the epoch was chosen on test (recall 1 to 2 % too high), and the choice decides the "
    "order: on Beauty the collaborative index has recall@10 .0680 after epoch 5 and .0457 after "
    "epoch 19. Ours: the last epoch of a fixed budget, the network starts from nothing and reads "
    "item names alone, and the budget is shorter, so levels differ and the order may."
)


def reversed_pairs(
    rows: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The pairs of indices that stand the other way round in ours than in the published table.

    Args:
        rows: as of :func:`onoma.study.indexing.indexing`: ``index`` and ``ndcg@10`` with ``mean``,
            ``low`` and ``high``.
        published: index to ``ndcg@10``.

    Returns:
        ``better`` and ``worse`` (in ours) and ``told_apart``: whether our intervals are disjoint.
    """
    ours = {row["index"]: row["ndcg@10"] for row in rows if row["index"] in published}
    found = []
    for better, one in ours.items():
        for worse, other in ours.items():
            turned = published[better]["ndcg@10"] < published[worse]["ndcg@10"]
            if turned and one["mean"] > other["mean"]:
                apart = one["low"] > other["high"]
                found.append({"better": better, "worse": worse, "told_apart": apart})
    return found


def order_note(
    rows: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]
) -> str:
    """A sentence on where our order differs from the published one."""
    shared = sum(row["index"] in published for row in rows)
    if shared < 2:
        return "Fewer than two published indices were tried here, so there is no order to compare."
    pairs = reversed_pairs(rows, published)
    if not pairs:
        return f"The order of the {shared} indices tried here is the published one."
    told = "; ".join(
        f"{pair['better']} above {pair['worse']}"
        + ("" if pair["told_apart"] else " (not told apart)")
        for pair in pairs
    )
    return f"Ours orders {len(pairs)} of {shared * (shared - 1) // 2} pairs the other way: {told}."
