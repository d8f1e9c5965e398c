import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from onoma.errors import OnomaError
from onoma.evaluation.comparison_page import write_comparison
from onoma.evaluation.report import write_report
from onoma.evaluation.report_page import Dot, dot_chart, line_chart

HOSTILE = "<script>alert(1)</script> & \"x\" 'y'"
FIGURES = {
    "recall@10": 0.5, "ndcg@10": 0.25, "recall@5": 0.4, "ndcg@5": 0.2,
    "ci95": {"recall@10": [0.4, 0.6], "ndcg@10": [0.2, 0.3]},
    "slices": {HOSTILE: {"cases": 3, "share": 0.5, "recall@10": 0.1, "ndcg@10": 0.05}},
    "beyond": {"coverage@10": 0.3}, "formulas": {HOSTILE: HOSTILE}, "cases": 6,
}  # fmt: skip
METRICS = {
    "recipe": HOSTILE,
    "dataset": {"name": HOSTILE, "users": 3, "items": 4},
    "protocol": {"split": "leave-one-out", "ties": "file", "mask_seen": True},
    "test": FIGURES,
    "valid": FIGURES,
    "test_unmasked": FIGURES,
    "modes": {"rank": FIGURES, "generate": FIGURES},
    "published": {HOSTILE: {"ndcg@10": 0.3}},
    "seconds": {"train": 200.0, "total": 300.0},
    "health": {
        "method": HOSTILE, "n_items": 4, "before": {"items": 2, "share": 0.5},
        "after": {"items": 0}, "levels": [{"used": 2, "size": 4, "entropy": 1.0, "evenness": 0.5}],
        "agreement": {"error": 0.25, "levels": [
            {"explained": 0.5, "beyond_chance": None, "alike": 2.5, "bought": 3, "follows": 4.0},
        ]},
    },
}  # fmt: skip


class Tags(HTMLParser):
    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def _sound(text: str) -> None:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not tags.seen & {"script", "link", "img", "iframe"}
    assert not re.search(r"(src|href)\s*=|url\(|https?://(?!www\.w3)", text)
    assert "prefers-color-scheme:dark" in text


def test_report_is_whole_escaped_and_self_contained(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "recipe.yaml").write_text(f"name: {HOSTILE}")
    rows = [{"epoch": e, "loss": 7.0 - e, "valid_ndcg@10": 0.1 * e} for e in (1, 2, 3)]
    log = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "log.jsonl").write_text(log + '\n{"epoch": 4, "lo')
    user = {"user": HOSTILE, "history": [HOSTILE], "target": ["b"], "recommended": ["b", HOSTILE]}
    (tmp_path / "examples.json").write_text(json.dumps([{**user, "hit": True}]))
    text = write_report(tmp_path).read_text("utf-8")
    _sound(text)
    assert "<polyline" in text
    assert "<td>50.0 %</td><td>–</td><td>2.5 x</td>" in text
    assert '<li class="yes">b</li>' in text
    for heading in ("Test", "Training", "Where it works", "Names", "Users"):
        assert f"<h2>{heading}</h2>" in text


def test_report_of_little_is_still_a_page(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"recipe": "popular", "test": {"ndcg@10": NaN}}')
    _sound(write_report(tmp_path).read_text("utf-8"))
    with pytest.raises(OnomaError, match="metrics"):
        write_report(tmp_path / "nowhere")


def test_comparison_page(tmp_path: Path) -> None:
    row = {"run": HOSTILE, "mean": 0.2, "difference": -0.1, "low": -0.2, "high": 0.0,
           "p": 0.04, "p_holm": 0.08}  # fmt: skip
    result = {"dataset": HOSTILE, "cases": 10, "test": "paired", "seeds": [],
              "metrics": {"ndcg@10": [{"run": "a", "mean": 0.3}, row]}}  # fmt: skip
    _sound(write_comparison(result, tmp_path / "c.html").read_text("utf-8"))


def test_charts_stay_inside_their_box() -> None:
    drawn = line_chart("x", [(1, 5.0), (2, 5.0), (3, 5.0)], mark=2)
    drawn += dot_chart("y", [Dot("a", 0.0, -1e-9, 1e-9), Dot("b", 1234.5, ours=True)], zero=True)
    drawn += line_chart("z", [(1, float("nan")), (2, 1.0), (9, -3e5)])
    places = [float(v) for v in re.findall(r'\b(?:c?[xy][12]?)="(-?[\d.]+)"', drawn)]
    assert all(0 <= place <= 460 for place in places)
    assert "nan" not in drawn
