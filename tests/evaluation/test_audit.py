"""The audit finds what was planted and stays quiet where nothing was."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from onoma.cli.audit import write
from onoma.dataset import Dataset, Ragged, split
from onoma.evaluation.audit import audit
from onoma.evaluation.audit_checks import branching, ties
from onoma.evaluation.floors import Lags
from onoma.recommenders.base import Requests, top_k

DATA = Path(os.environ.get("ONOMA_DATA", Path(__file__).parents[3] / "shared" / "data"))


def log(n_users=150, n_items=400, length=6, *, leak, seed=0):
    """Random items; with ``leak`` a user's last items first appear with that user, in order."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, n_items, (n_users, length))
    if leak:
        items[:, -3:] = n_items + np.arange(3 * n_users).reshape(n_users, 3)
    order = np.random.default_rng(seed + 1).permutation(items.max() + 1)
    return pl.DataFrame(
        {
            "user_id": np.repeat([f"u{u:04}" for u in range(n_users)], length),
            "item_id": [f"i{order[i]:05}" for i in items.ravel()],
            "timestamp": np.arange(n_users * length),
        }
    )


def test_a_planted_id_leak_is_found_and_none_is_invented():
    leaky = audit(Dataset.construct(log(leak=True)))
    clean = audit(Dataset.construct(log(n_users=600, n_items=200, leak=False)))
    assert leaky.figures["identifiers"]["first_appearance"]["recall@10"] > 0.9
    assert leaky.figures["identifiers"]["codes"]["recall@10"] < 0.1
    found = {(one.level, one.check) for one in leaky.findings}
    assert ("leak", "identifiers") in found
    assert not [one for one in clean.findings if one.level == "leak"]
    assert leaky.figures["cold"]["test"] == 1.0
    assert clean.figures["smoothness"] is None


def test_planted_ties_are_counted_exactly_and_their_order_is_a_leak():
    frame = log(leak=False, length=6)
    day = np.tile([0, 1, 2, 3, 4, 4], 150) * 86_400
    frame = frame.with_columns(timestamp=pl.Series(day)).sort(
        "user_id", "timestamp", "item_id", maintain_order=True
    )
    dataset = Dataset.construct(frame)
    parts = split(dataset)
    shuffles = [split(dataset, ties="shuffled", seed=seed) for seed in range(10)]
    got = ties(dataset, parts, shuffles)
    assert got["expected_change"] == pytest.approx(0.5, abs=0.01)
    assert got["changed"] == pytest.approx(0.5, abs=0.05)
    assert got["ascending"] == 1.0 and got["tied_at_the_end"] == 1.0 and got["day_stamps"] == 1.0
    result = audit(dataset)
    assert any(one.level == "leak" and one.check == "ties" for one in result.findings)
    assert any("shuffled" in line for line in result.advice)


def test_without_timestamps_the_audit_says_so():
    result = audit(Dataset.construct(log(leak=False).drop("timestamp")))
    assert result.figures["ties"] is None and result.figures["time"] is None
    assert any("no timestamps" in one.text for one in result.findings)


def test_reach_by_hand():
    frame = pl.DataFrame(
        [
            ("a", "1"),
            ("a", "2"),
            ("a", "3"),
            ("a", "9"),
            ("b", "2"),
            ("b", "4"),
            ("b", "1"),
            ("b", "2"),
        ],
        schema=["user_id", "item_id"],
        orient="row",
    )
    got = branching(split(Dataset.construct(frame)))
    # Training steps: 1-2 and 2-4. Test: 3 -> 9 (no edge) and 1 -> 2 (forward).
    assert got["edges"] == 2 and got["memorised"] == 0.5
    assert [one["targets"] for one in got["reach"]] == [0.5, 0.5, 0.5]
    assert [one["candidates"] for one in got["reach"]] == [0.5, 0.5, 1.5]


@pytest.mark.parametrize("mask", [True, False])
def test_the_sparse_floors_rank_as_dense_scores_do(mask):
    rng = np.random.default_rng(3)
    frame = log(leak=False, n_items=40).with_columns(
        item_id=pl.Series([f"i{i}" for i in rng.zipf(1.5, 900) % 40])
    )
    parts = split(Dataset.construct(frame))
    requests = Requests.of(parts.test, mask_seen=mask)
    for lags in ((), (1,), (1, 2, 3)):
        model = Lags(parts, lags)
        dense = np.tile(model.fallback, (len(requests), 1))
        for lag, table in model.tables:
            last = parts.test.history.padded(align="right")[:, -lag]
            dense += np.where(last[:, None] >= 0, table.toarray()[last], 0)
        expected = top_k(torch.from_numpy(dense), 10, forbidden=requests.forbidden())
        assert (model.recommend(requests, 10).items == expected.items).all()


def test_the_floors_are_those_of_the_recommenders():
    from onoma.recommenders.baselines.markov import Markov
    from onoma.recommenders.baselines.popular import MostPopular

    parts = split(Dataset.construct(log(leak=False, n_items=30)))
    requests = Requests.of(parts.test)
    for lags, model in (((1,), Markov()), ((), MostPopular())):
        ours = Lags(parts, lags).recommend(requests, 10)
        assert (ours.items == model.fit(parts).recommend(requests, 10).items).all()
    empty = Requests(Ragged.from_rows([[]]))
    assert (Lags(parts).recommend(empty).items == Markov().fit(parts).recommend(empty).items).all()


def test_the_page_is_self_contained_and_escaped(tmp_path):
    name = '<script>alert("x")</script>'
    write(audit(Dataset.construct(log(leak=True), name=name)), tmp_path)
    page = (tmp_path / "audit.html").read_text("utf-8")
    assert "<script" not in page and "&lt;script" in page and "<svg" in page
    assert "http" not in page and "src=" not in page
    assert json.loads((tmp_path / "audit.json").read_text("utf-8"))["data"]["name"] == name


@pytest.mark.skipif(
    not (DATA / "amazon-beauty-2014").is_dir(), reason="no Amazon Beauty 2014 under ONOMA_DATA"
)
def test_the_truths_about_beauty():
    from onoma.dataset.load import load

    result = audit(load(DATA / "amazon-beauty-2014"))
    figures = result.figures
    assert figures["ties"]["expected_change"] == pytest.approx(0.29, abs=0.01)
    rule = {key: figures["identifiers"][key]["recall@10"] for key in ("first_appearance", "codes")}
    assert rule["first_appearance"] == pytest.approx(0.0463, abs=5e-5)
    assert rule["codes"] < 0.003
    rows = {(row["name"], row["ties"], row["mask_seen"]): row for row in result.floors}
    markov = rows["Markov, order 1", "file", True]
    assert markov["recall@10"] == pytest.approx(0.0668, abs=1e-4)
    assert markov["ndcg@10"] == pytest.approx(0.0439, abs=1e-4)
    shuffled = rows["Markov, order 1", "shuffled", True]
    assert shuffled["recall@10"] == pytest.approx(0.0546, abs=0.002)
    assert rows["most popular", "file", True]["recall@10"] == pytest.approx(0.0114, abs=5e-4)
