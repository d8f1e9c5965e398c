"""Five abilities of a recommender that reads preferences, beside what would fake them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma import encoding
from onoma.dataset import Split
from onoma.recommenders.base import Requests
from onoma.recommenders.text import preferences
from onoma.recommenders.text.corpus import Corpus
from onoma.recommenders.text.mender import Mender

_K = 10


def preference_figures(model: Mender, split: Split) -> dict[str, Any]:
    """The benchmark of Mender (Paischer et al., 2024), with preferences written by rule.

    Args:
        model: fitted.
        split: its data; test events that have a preference and a target with known aspects.

    Returns:
        recall@10 and ndcg@10, seen items masked, of

        ``recommendation``: the next item, given the preference nearest to it (``oracle``: it knows
        the target), the latest, a random one, all (``consolidation``), none, and another user's;
        ``fine`` and ``coarse``: an item like or unlike the next one, given its aspects, and
        without them;
        ``sentiment``: of disliked items, the share that is answered when it is wished for and not
        when it is to be avoided, beside the share answered when wished for.
    """
    test = model.corpus(split, "test")
    able = np.array([bool(said) for said in test.preferences], dtype=bool)
    able &= np.array([bool(test.aspects[item]) for item in test.items], dtype=bool)
    events = np.flatnonzero(able)
    limit = model.settings.measured
    if limit and len(events) > limit:
        events = events[np.linspace(0, len(events) - 1, limit).astype(np.int64)]
    if not len(events):
        return {"events": 0}
    requests = Requests(test.before.take(events), test.users[events])
    return {
        "events": len(events),
        "recommendation": _recommendation(model, test, events, requests),
        **_steering(model, split, test, events, requests),
        "sentiment": _sentiment(model, test),
    }


def _figures(found: NDArray[np.int32], target: NDArray[np.integer]) -> dict[str, float]:
    hit = found == target[:, None]
    return {
        f"recall@{_K}": float(hit.any(axis=1).mean()),
        f"ndcg@{_K}": float((hit / np.log2(np.arange(2, _K + 2))).sum(axis=1).mean()),
    }


def _recommendation(
    model: Mender, test: Corpus, events: NDArray[np.int64], requests: Requests
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    said = [test.preferences[e] for e in events]
    target = test.items[events]
    oracle = [
        preferences.nearest(one, test.aspects[item]) for one, item in zip(said, target, strict=True)
    ]
    other = np.roll(np.arange(len(events)), max(1, len(events) // 2))
    asked = {
        "oracle": oracle,
        "latest": [one[0] for one in said],
        "random": [one[int(rng.integers(len(one)))] for one in said],
        "consolidation": [" ; ".join(one) for one in said],
        "none": [""] * len(events),
        "another user's": [oracle[i] for i in other],
    }
    return {
        name: _figures(model.preferring(requests, texts, _K), target)
        for name, texts in asked.items()
    }


def _steering(
    model: Mender,
    split: Split,
    test: Corpus,
    events: NDArray[np.int64],
    requests: Requests,
) -> dict[str, Any]:
    """Targets near to and far from the next item by content, never the next item itself."""
    vectors = encoding.cached(encoding.build(model.settings.encoder), split)
    target = test.items[events]
    usable = (split.train_counts > 0) & np.array([bool(words) for words in test.aspects])
    like = vectors[target] @ vectors.T
    like[:, ~usable] = np.nan
    like[np.arange(len(events)), target] = np.nan
    seen = requests.history
    like[seen.rows(), seen.values] = np.nan
    out = {}
    for name, chosen in (
        ("fine", np.where(np.isnan(like), -np.inf, like).argmax(axis=1)),
        ("coarse", np.where(np.isnan(like), np.inf, like).argmin(axis=1)),
    ):
        wish = [preferences.sentence(test.aspects[item], True) for item in chosen]
        out[name] = {
            "given": _figures(model.preferring(requests, wish, _K), chosen),
            "none": _figures(model.preferring(requests, [""] * len(wish), _K), chosen),
        }
    return out


def _sentiment(model: Mender, test: Corpus) -> dict[str, float]:
    bad = [
        e for e in range(len(test))
        if test.stars[e] <= preferences.DISLIKED and test.aspects[test.items[e]]
    ]  # fmt: skip
    if not bad:
        return {"events": 0}
    events = np.array(bad)
    requests = Requests(test.before.take(events), test.users[events])
    wish = [preferences.sentence(test.aspects[item], True) for item in test.items[events]]
    liked, avoided = (
        (model.preferring(requests, texts, _K) == test.items[events][:, None]).any(axis=1)
        for texts in (wish, [preferences.turned(text) for text in wish])
    )
    return {
        "events": len(events),
        f"told apart@{_K}": float((liked & ~avoided).mean()),
        f"answered when wished for@{_K}": float(liked.mean()),
    }
