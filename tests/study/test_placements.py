import json
from pathlib import Path

import numpy as np
import pytest
import torch

from onoma.cli.main import main
from onoma.errors import OnomaError
from onoma.evaluation.calibration import drift, reliability, whole
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.ranking.clicks import auc
from onoma.recommenders.ranking.events import Events, TowerSettings
from onoma.study import decisions
from onoma.study import placement_models as models
from onoma.study import placements as study
from onoma.study.aggregates import aggregates
from onoma.study.channels import CHANNELS, DAY, KINDS, PRODUCTS, WINDOW, Log, channels

SMALL = TowerSettings(width=8, length=12, blocks=1, heads=2, dropout=0.0)
QUICK = TrainSettings(epochs=1, batch_tokens=4096, lr=0.01, valid_every=1)
FEW = TrainSettings(epochs=4, lr=0.01, valid_every=1)


@pytest.fixture(scope="module")
def log() -> Log:
    return channels(800, 60, seed=0)


@pytest.fixture(scope="module")
def reader(log: Log) -> models.Reader:
    return models.Reader(log, np.zeros((len(log.times), 2), dtype=np.float32), 12)


def test_a_log_is_what_it_says(log: Log) -> None:
    users, shown = log.users, log.product >= 0
    assert 0.85 < len(users) / (800 * 60) < 1.15
    assert (np.diff(log.times)[np.diff(users) == 0] >= 0).all()
    assert (shown == (log.fields[:, 1] == 1)).all()
    assert (log.clicked <= shown).all() and (log.converted <= log.clicked).all()
    premier = log.statics[users, 0] > 0
    assert premier[log.product == 3].all()  # eligibility of what was logged
    at = np.flatnonzero(shown)
    click = log.chances[at, 1, log.product[at]]
    assert abs(log.clicked[at].mean() - click.mean()) < 0.01
    # Clicks follow the chances that they are said to be drawn from, and so do impressions.
    assert reliability(click, log.clicked[at]).error < 0.02
    for product in range(4):
        said = log.chances[at, 0, product]
        assert reliability(said, log.product[at] == product).error < 0.02
    again = channels(800, 60, seed=0)
    assert np.array_equal(again.fields, log.fields) and np.array_equal(again.times, log.times)
    assert not np.array_equal(channels(800, 60, seed=1).statics, log.statics)


def test_conversions_come_later_and_are_in_the_log(log: Log) -> None:
    users = log.users
    came = np.flatnonzero(log.fields[:, 1] == 1 + KINDS.index("conversion"))
    waits = []
    for row in np.flatnonzero(log.converted & log.mature)[:200]:
        mine = came[(users[came] == users[row]) & (came > row)]
        mine = mine[log.fields[mine, 0] == log.product[row] + 1]
        assert len(mine) and log.times[mine[0]] - log.times[row] <= WINDOW * DAY + 60
        waits.append(log.times[mine[0]] - log.times[row])
    assert np.mean(waits) > 0.5 * DAY


def test_what_was_bought_makes_the_next_product_likelier(log: Log) -> None:
    users = log.users
    came = log.fields[:, 1] == 1 + KINDS.index("conversion")
    first = came & (log.fields[:, 0] == 1)
    start = np.full(log.users.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(start, users[first], log.times[first])
    shown = log.product == 1
    after = shown & (log.times > start[users])
    assert log.chances[after, 2, 1].mean() > 1.15 * log.chances[shown & ~after, 2, 1].mean()


def test_counts_are_those_of_a_loop_and_know_nothing_of_the_answer(log: Log) -> None:
    shown = np.flatnonzero(log.product >= 0)
    rows = np.sort(np.random.default_rng(0).permutation(shown)[:40])
    made = aggregates(log, rows)
    wide = len(KINDS) + 1
    codes = len(PRODUCTS) * wide + 8
    for n, row in enumerate(rows):
        start = log.offsets[log.users[row]]
        for w, days in enumerate((1, 7, 30, None)):
            want = np.zeros(codes)
            for at in range(start, row):
                if days is not None and log.times[at] < log.times[row] - days * DAY:
                    continue
                entity, kind = log.fields[at, :2] - 1
                code = len(PRODUCTS) * wide + entity - 4 if entity >= 4 else entity * wide + kind
                want[code] += 1
                if log.fields[at, 4] == 2:
                    want[entity * wide + wide - 1] += 1
            assert np.array_equal(made.table[n, w * codes : (w + 1) * codes], want)
        today = log.times[row] // DAY * DAY
        assert np.expm1(made.before[n]).sum() == pytest.approx(
            (log.times[start:row] < today).sum()
            + (log.fields[start:row, 4] == 2)[log.times[start:row] < today].sum(), abs=1e-3
        )  # fmt: skip
    turned = Log(**{**vars(log), "clicked": ~log.clicked, "converted": ~log.converted})
    assert np.array_equal(aggregates(turned, rows).table, made.table)


def test_towers_read_what_was_before_and_not_the_answer(log: Log, reader: models.Reader) -> None:
    row = int(np.flatnonzero(log.converted)[50])
    events = reader.events(torch.tensor([row]))
    n = int(events.known.sum())
    assert np.array_equal(events.fields[0, :n].numpy(), log.fields[row - n : row])
    assert (events.times[0, :n] <= int(log.times[row])).all()
    torch.manual_seed(0)
    model = models.Model(reader.dense, True, SMALL)
    users = np.arange(800) < 40
    said = models.click_logits(model, reader, users)
    every = models.click_logits(model, reader, users, every=True)
    at = np.flatnonzero(~np.isnan(said[:, 0]))
    shown = np.flatnonzero((log.product >= 0) & users[log.users])
    assert np.array_equal(at, np.setdiff1d(shown, log.offsets))  # all but first events
    np.testing.assert_allclose(every[at, log.product[at]], said[at, 0], atol=1e-5)
    # The answer to an impression changes what is said after it, never what is said of it.
    fields = log.fields.copy()
    row = int(at[len(at) // 2])
    fields[row, 4] = 3 - fields[row, 4]
    other = models.Reader(Log(**{**vars(log), "fields": fields}), reader.activity.numpy(), 12)
    changed = np.abs(models.click_logits(model, other, users)[:, 0] - said[:, 0]) > 1e-6
    assert not changed[: row + 1].any() and changed[row + 1 :].any()


def test_a_share_of_the_negatives_is_corrected_for() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(-3, 1, 200_000)
    labels = rng.random(len(truth)) < 1 / (1 + np.exp(-truth))
    # What a perfect model of the thinned data says.
    thinned = truth - np.log(0.25)
    kept = labels | (rng.random(len(truth)) < 0.25)
    assert reliability(1 / (1 + np.exp(-thinned[kept])), labels[kept]).error < 0.01
    assert reliability(1 / (1 + np.exp(-thinned)), labels).error > 0.05
    assert reliability(1 / (1 + np.exp(-whole(thinned, 0.25))), labels).error < 0.005
    with pytest.raises(ValueError, match="above 0"):
        whole(truth, 0.0)


def test_drift_is_none_of_the_same_and_much_of_another() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 20_000), rng.integers(0, 5, 20_000)
    assert drift(a, b) < 0.01 and drift(a, np.minimum(b, 2)) > 0.25


def test_rules_hold_and_replay_agrees_with_the_truth(log: Log) -> None:
    rows = np.flatnonzero((log.product >= 0) & log.mature)
    may = decisions.allowed(log, rows)
    plain = log.statics[log.users[rows], 0] == 0
    assert not may[plain, 3].any() and may.any(axis=1).all()
    for row in rows[::997]:  # what was shown often of late, without a click, rests
        near = np.arange(log.offsets[log.users[row]], row)
        near = near[log.times[near] >= log.times[row] - 2 * DAY]
        dull = np.bincount(log.product[near[log.fields[near, 4] == 1]], minlength=4)
        allowed = decisions.allowed(log, np.array([row]))[0]
        if ((dull < 4) & (np.arange(4) < 3)).any():
            assert not allowed[dull >= 4].any()
    dull, rng = np.zeros((len(rows), 4)), np.random.default_rng(0)
    true = log.chances[rows, 1] * log.chances[rows, 2] * study.VALUES
    best = decisions.decide(log, rows, true)
    anything = decisions.decide(log, rows, rng.random(dull.shape))
    assert best.earned > 1.3 * anything.earned
    assert best.replayed == pytest.approx(best.earned, rel=0.35)
    assert anything.replayed == pytest.approx(anything.earned, rel=0.35)


def test_events_that_are_not_told_leave_no_gap() -> None:
    known = torch.tensor([[True, True, True, False]])
    fields = torch.tensor([[[1], [2], [3], [0]]])
    events = Events(fields, torch.tensor([[5, 6, 7, -1]]), known)
    left = decisions.without(events, fields[:, :, 0] == 2)
    assert left.known.tolist() == [[True, True, False, False]]
    assert left.fields[0, :, 0].tolist() == [1, 3, 0, 0]
    assert left.times.tolist() == [[5, 7, -1, -1]]


def test_adapters_are_small_and_leave_their_base(log: Log, reader: models.Reader) -> None:
    rows = np.flatnonzero(log.clicked & log.mature & (log.product == 0))[:200]
    mine = models.Part(rows, log.converted[rows], log.product[rows])
    torch.manual_seed(0)
    wide = TowerSettings(width=64, length=12, blocks=2, heads=2, dropout=0.0)
    base = models.Model(reader.dense, False, wide)
    before = models.conversion_logits(base, reader, rows)
    tuned, told = models.tune(base, reader, mine, mine, FEW, 4, 0, 50, True)
    assert told["share"] <= 0.1 and told["best_epoch"] > 0
    np.testing.assert_array_equal(models.conversion_logits(base, reader, rows), before)
    said = models.conversion_logits(tuned, reader, rows)
    assert auc(said, mine.labels) > auc(before, mine.labels) + 0.05
    turned = models.Part(rows, before > np.median(before), mine.product)
    kept, told = models.tune(base, reader, turned, turned, FEW, 4, 0, 50, True)
    assert told["best_epoch"] == 0  # nothing is better than what is perfect
    np.testing.assert_array_equal(models.conversion_logits(kept, reader, rows), before)


def test_a_study(tmp_path: Path) -> None:
    result = study.placements(
        tmp_path, users=1000, events=60, tower=SMALL, train=QUICK, trees=10, times=True, quiet=True
    )
    assert json.loads((tmp_path / "placements.json").read_text("utf-8")) == result
    assert [row["arm"] for row in result["conversions"]] == list(study.ARMS)
    assert all(set(row["auc"]) == set(PRODUCTS) for row in result["conversions"])
    assert [row["arm"] for row in result["times"]] == ["order alone", "waves"]
    assert len(result["acceptance"]) == 4 and result["latency"]["p99"] > 0
    assert result["clicks"]["error"] < result["clicks"]["uncorrected"]
    lines = (tmp_path / "decisions.jsonl").read_text("utf-8").splitlines()
    first = json.loads(lines[0])
    assert len(lines) == result["decisions"] and set(first["products"]) == set(PRODUCTS)
    able = {name: row["value"] for name, row in first["products"].items() if row["may"]}
    assert first["shown"] == max(able, key=lambda name: able[name])
    assert {row["of"] for row in first["reasons"]} <= {*CHANNELS, "profile"}
    policies = {row["policy"]: row["earned"] for row in result["policies"]}
    assert policies["true chances"] == max(policies.values())


def test_acceptance_holds_where_it_should() -> None:
    def asked(ours: float, alone: float, trees: float, share: float, p99: float) -> list[bool]:
        rows = [
            {"arm": "unified, adapted", "auc": dict.fromkeys(PRODUCTS, ours), "share": [share]},
            {"arm": "alone", "auc": dict.fromkeys(PRODUCTS, alone) | {"loan": ours}},
            {"arm": "trees", "auc": dict.fromkeys(PRODUCTS, trees)},
        ]
        made = {"conversions": rows, "latency": {"p99": p99}}
        return [bool(row["holds"]) for row in study.acceptance(made)]

    assert asked(0.8, 0.79, 0.79, 0.1, 119) == [True] * 4
    assert asked(0.8, 0.81, 0.8, 0.11, 120) == [False] * 4


def test_bad_words(tmp_path: Path) -> None:
    with pytest.raises(OnomaError, match="10 users"):
        study.placements(tmp_path, users=10)
    with pytest.raises(OnomaError, match="too few conversions"):
        study.placements(tmp_path, users=200, events=10)
    with pytest.raises(SystemExit) as left:
        main(["study", "placements", "--users", "0"])
    assert left.value.code == 2
