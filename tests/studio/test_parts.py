"""The parts of the studio that need no browser."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onoma.errors import OnomaError
from onoma.serving.metrics import Metrics
from onoma.studio.pulse import Pulse, Times, spark
from onoma.studio.shelf import inside, shelf
from onoma.studio.systems import chosen, listed
from onoma.studio.titles import Titles
from onoma.studio.tokens import hue, prefixes

TITLES = ["Toy Story 2", "Toy Story", "Story of a Toy, The", "Amélie", None, "Toys", "Casino"]


def _found(text: str, gone: Sequence[int] = ()) -> list[str | None]:
    counts = np.array([9, 5, 1, 1, 1, 7, 1])
    mask = np.isin(np.arange(len(TITLES)), gone)
    return [TITLES[code] for code in Titles(TITLES, counts).find(text, 3, mask)]


def test_titles_are_found_by_the_beginnings_of_their_words() -> None:
    assert _found("toy story") == ["Toy Story", "Toy Story 2", "Story of a Toy, The"]
    assert _found("story toy") == ["Toy Story", "Toy Story 2", "Story of a Toy, The"]
    assert _found("AMELI") == ["Amélie"]
    assert _found("toy sto", gone=[0]) == ["Toy Story", "Story of a Toy, The"]
    assert _found("tory") == [] and _found(" ,.*(") == []


@given(st.lists(st.floats(0.001, 9.0), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_quantiles_lie_in_the_bucket_of_the_true_one(seconds: list[float], q: float) -> None:
    bounds = [0.5, 1.0, 2.0, 4.0, 8.0, float("inf")]
    at = np.searchsorted(bounds, seconds)
    times = Times(bounds, np.bincount(at, minlength=6).astype(float).tolist())
    true = np.quantile(seconds, q, method="inverted_cdf")
    place = int(np.searchsorted(bounds, true))
    found = times.quantile(q)
    assert found is not None
    assert ([0.0, *bounds][place] <= found <= bounds[place]) or place == 5 and found == 8.0
    assert Times(bounds, [0.0] * 6).quantile(q) is None


def test_the_pulse_counts_what_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("onoma.studio.pulse.time.time", lambda: now[0])
    metrics = Metrics()
    metrics.request("/v1/recommend", 200, 0.004)
    pulse = Pulse(metrics)
    for status, seconds in ((200, 0.004), (429, 0.0004)):
        metrics.request("/v1/recommend", status, seconds)
    metrics.request("/studio", 200, 3.0)
    metrics.fallbacks.labels("popular").inc()
    now[0] += 2
    pulse.sample()
    grown, seconds = pulse.last(60)
    assert (grown.count, seconds) == (2, 2) and grown.fallbacks == {"popular": 1}
    assert grown.requests["/v1/recommend", "429"] == 1
    rate, half, _ = pulse.series()
    assert rate == [1.0] and half[0] is not None and 0 < half[0] <= 5
    now[0] += 2
    pulse.sample()
    assert pulse.series()[0] == [1.0, 0.0] and pulse.series()[1][1] is None


def test_a_line_has_gaps_where_nothing_was_measured() -> None:
    assert spark([None, None], 1.0, length=2) == ""
    drawn = spark([1.0, None, 2.0, 0.0], 2.0, length=4)
    assert drawn.count("M") == 2 and drawn.endswith("L300.0 58.0")


def test_the_shelf_tells_finished_unfinished_and_damaged_runs(tmp_path: Path) -> None:
    for name in ("good", "going", "torn", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("name: x\ndata: {path: packaged:movielens}\n")
    test = {"ndcg@5": 0.2, "ndcg@20": 0.4, "recall@20": 0.5, "ci95": {"ndcg@20": [0.3, 0.5]}}
    metrics = {"recipe": "x", "dataset": {"name": "movielens"}, "test": test}
    (tmp_path / "good" / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "torn" / "metrics.json").write_text('{"test": ')
    found = {entry.name: entry for entry in shelf(tmp_path)}
    states = {name: entry.state for name, entry in found.items()}
    assert states == {"good": "finished", "going": "unfinished", "torn": "damaged"}
    good = found["good"]
    assert (good.cut, good.ndcg, good.low, good.high, good.recall) == (20, 0.4, 0.3, 0.5, 0.5)
    assert inside(tmp_path, "going") == tmp_path / "going"
    for name in ("..", "", "good/../good", ".hidden/x"):
        with pytest.raises(OnomaError):
            inside(tmp_path, name)


def test_systems_are_chosen_by_words_and_written_as_text() -> None:
    base = {"paper": "P", "kind": "indexing", "published": {}}
    rows = [
        {"id": "S1", "name": "<b>One</b>", "status": "planned", **base},
        {"id": "S2", "name": "Two", "status": "ready", **base},
    ]
    assert [row["id"] for row in chosen(rows, "indexing TWO")] == ["S2"]
    assert [row["id"] for row in chosen(rows, "", "planned")] == ["S1"]
    assert "&lt;b&gt;One" in listed(rows) and "<b>" not in listed(rows)


def test_equal_beginnings_have_equal_colours() -> None:
    assert prefixes([[3, 7], None, [3, 9]]) == {(3,), (3, 7), (3, 9)}
    assert hue([3]) != hue([4]) and hue([3, 7]) != hue([3, 9])
    turn = abs(hue([3, 7]) - hue([3]))
    assert min(turn, 360 - turn) <= 23, "a child's colour stays near its parent's"
