"""The figures of S053 against a second writing of their formulas, and what they say of models."""

import math

import numpy as np
import pytest

from onoma.dataset import Ragged, split
from onoma.dataset.load import load
from onoma.evaluation.beyond import beyond
from onoma.evaluation.evaluate import evaluate
from onoma.evaluation.metrics import metrics
from onoma.recommenders.baselines.chance import Random
from onoma.recommenders.baselines.ease import EASE
from onoma.recommenders.baselines.popular import MostPopular

KS = (10, 20, 50)
N_USERS, N_ITEMS = 50, 300


@pytest.fixture(scope="module")
def fixture():
    """Fifty users: lists of different lengths, one of them empty, and a long-tailed training."""
    rng = np.random.default_rng(0)
    weight = 1 / np.arange(1, N_ITEMS + 1)
    weight /= weight.sum()
    train, lists, targets = [], [], []
    for user in range(N_USERS):
        bag = rng.choice(N_ITEMS, size=40, replace=False, p=weight)
        train.append(bag[:25].tolist())
        targets.append(bag[25 : 26 + rng.integers(0, 14)].tolist())
        rest = [i for i in rng.permutation(N_ITEMS).tolist() if i not in train[-1]]
        good = [i for i in targets[-1] if rng.random() < 0.5]
        mixed = good + [i for i in rest if i not in good]
        length = 0 if user == 7 else int(rng.integers(5, 61))
        head = mixed[: max(length // 2, 1)]
        rng.shuffle(head)
        lists.append((head + mixed[len(head) :])[:length])
    counts = np.bincount(np.concatenate(train), minlength=N_ITEMS)
    assert (counts == 0).any()
    return train, lists, targets, counts


def accuracy_again(lists, targets, k):
    """User by user, from the definitions."""
    found = {name: [] for name in ("precision", "recall", "f1", "hit_rate", "map", "mar", "mrr")}
    found["ndcg"] = []
    for ranked, wanted in zip(lists, targets, strict=True):
        hit = [i in set(wanted) for i in ranked[:k]] + [False] * (k - len(ranked[:k]))

        def precision(n, hit=hit):
            return sum(hit[:n]) / n

        def recall(n, hit=hit, wanted=wanted):
            return sum(hit[:n]) / len(wanted)

        p, r = precision(k), recall(k)
        found["precision"].append(p)
        found["recall"].append(r)
        found["f1"].append(2 * p * r / (p + r) if p + r else 0.0)
        found["hit_rate"].append(float(any(hit)))
        found["map"].append(sum(precision(n) for n in range(1, k + 1) if hit[n - 1]) / len(wanted))
        found["mar"].append(sum(recall(n) for n in range(1, k + 1)) / k)
        found["mrr"].append(1 / (hit.index(True) + 1) if any(hit) else 0.0)
        dcg = sum(1 / math.log2(n + 1) for n in range(1, k + 1) if hit[n - 1])
        found["ndcg"].append(
            dcg / sum(1 / math.log2(n + 1) for n in range(1, min(k, len(wanted)) + 1))
        )
    return {name: sum(values) / len(values) for name, values in found.items()}


def beyond_again(train, lists, targets, k):
    """From the definitions, with sets and loops; popularity is that of training alone."""
    count = {i: 0 for i in range(N_ITEMS)}
    for row in train:
        for item in row:
            count[item] += 1
    total = sum(count.values())
    head, covered = set(), 0
    for item in sorted(count, key=lambda i: (-count[i], i)):
        if covered >= 0.8 * total:
            break
        head.add(item)
        covered += count[item]
    tail = set(count) - head
    cut = [row[:k] for row in lists]
    shown = {}
    for row in cut:
        for item in row:
            shown[item] = shown.get(item, 0) + 1
    all_shown = sum(shown.values())
    exposures = sorted(shown.get(i, 0) for i in range(N_ITEMS))
    filled = [row for row in cut if row]
    out = {
        "coverage": len(shown) / N_ITEMS,
        "user_coverage": len(filled) / len(cut),
        "retrieved": sum(map(len, cut)) / len(cut),
        "gini": sum(abs(a - b) for a in exposures for b in exposures)
        / (2 * N_ITEMS**2 * (all_shown / N_ITEMS)),
        "entropy": -sum(c / all_shown * math.log2(c / all_shown) for c in shown.values()),
        "arp": sum(sum(count[i] for i in row) / len(row) for row in filled) / len(filled),
        "aplt": sum(len(set(row) & tail) / len(row) for row in filled) / len(filled),
        "aclt": sum(len(set(row) & tail) for row in cut) / len(cut),
    }
    parity, opportunity = [], []
    for group in (head, tail):
        got = sum(len(set(row) & group) for row in cut)
        parity.append(got / sum(len(group - set(had)) for had in train))
        right = [set(row) & set(want) & group for row, want in zip(cut, targets, strict=True)]
        opportunity.append(sum(map(len, right)) / sum(len(set(w) & group) for w in targets))
    for name, share in (("pop_rsp", parity), ("pop_reo", opportunity)):
        mean = sum(share) / 2
        out[name] = math.sqrt(sum((s - mean) ** 2 for s in share) / 2) / mean
    most, least = max(count.values()), min(c for c in count.values() if c)
    for name, worth in (
        ("epc", lambda c: 1 - c / most),
        ("efd", lambda c: -math.log2(max(c, least) / total)),
    ):
        users = []
        for row, want in zip(cut, targets, strict=True):
            disc = [1 / math.log2(rank + 2) for rank in range(len(row))]
            gain = sum(
                d * worth(count[i]) for d, i in zip(disc, row, strict=True) if i in set(want)
            )
            users.append(gain / sum(disc) if disc else 0.0)
        out[name] = sum(users) / len(users)
    return out


@pytest.mark.parametrize("k", KS)
def test_all_figures_of_fifty_users_equal_their_definitions(fixture, k):
    train, lists, targets, counts = fixture
    items = np.full((N_USERS, 60), -1)
    for row, ranked in enumerate(lists):
        items[row, : len(ranked)] = ranked
    ours = metrics(items, Ragged.from_rows(targets), (k,))
    for name, value in accuracy_again(lists, targets, k).items():
        assert ours[f"{name}@{k}"].mean() == pytest.approx(value, abs=1e-6), name
    found = beyond(
        items, counts, k=k, history=Ragged.from_rows(train), targets=Ragged.from_rows(targets)
    )
    expected = beyond_again(train, lists, targets, k)
    assert len(expected) == 12
    for name, value in expected.items():
        assert found[f"{name}@{k}"] == pytest.approx(value, abs=1e-6), name


def test_figures_that_are_not_defined_are_left_out():
    counts, nothing = np.array([9, 1, 0]), np.full((2, 3), -1)
    assert beyond(nothing, counts, k=3) == {"coverage@3": 0, "user_coverage@3": 0, "retrieved@3": 0}
    found = beyond(
        np.array([[0, 1, 2]]), counts, k=3, history=Ragged.from_rows([[0]]),
        targets=Ragged.from_rows([[0]]),
    )  # fmt: skip
    # Nobody could be shown another item of the head, and no target is of the long tail.
    assert "pop_rsp@3" not in found and "pop_reo@3" not in found
    assert found["efd@3"] == pytest.approx(-np.log2(0.9) / (1 + 1 / np.log2(3) + 0.5))


def test_popular_lists_are_popular_and_random_ones_cover_more(data_folder):
    parts = split(load(data_folder / "movielens-100k"))
    found = {}
    for model in (MostPopular(), EASE(penalty=200.0, decay=1.0), Random()):
        figures = evaluate(model.fit(parts), parts.test, parts, ks=(10,)).beyond
        found[model.name] = figures
    arp = [found[name]["arp@10"] for name in ("popular", "ease", "random")]
    assert arp[0] > arp[1] > arp[2]
    shown = [found[name]["coverage@10"] for name in ("random", "ease", "popular")]
    assert shown[0] > shown[1] > shown[2]
