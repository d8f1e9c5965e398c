"""A run directory as one page a person can read anywhere: ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.likes import majority
from onoma.evaluation.names_page import names_section, names_style
from onoma.evaluation.report_page import (
    Dot,
    Markup,
    bar,
    cards,
    details,
    dot_chart,
    esc,
    line_chart,
    number,
    page,
    pre,
    section,
    table,
)
from onoma.evaluation.report_systems import (
    blend_section,
    clicks_section,
    health_section,
    search_section,
    written_section,
)

_NAMES = ("recall", "ndcg", "hit_rate", "mrr", "map", "mar", "precision", "f1")
_NONE_LEFT_OUT = "An answer that is of no use counts as the order of popularity; none is left out."
_MODES = {"generate": "generate", "rank": "rank", "generate_then_rank": "generate, then rank"}


def write_report(folder: str | Path) -> Path:
    """Render ``report.html`` from the files of a run directory.

    Reads ``metrics.json`` (needed) and ``log.jsonl``, ``examples.json``, ``names.json``,
    ``recipe.yaml`` (where they are).

    Raises:
        OnomaError: no readable ``metrics.json``.
    """
    folder = Path(folder)
    target = folder / "report.html"
    write_text(report_of(folder), target)
    return target


def report_of(folder: Path) -> str:
    """The page of a run directory, read anew from the files that :func:`write_report` names.

    Raises:
        OnomaError: no readable ``metrics.json``.
    """
    metrics = _json(folder / "metrics.json")
    if not isinstance(metrics, dict):
        raise OnomaError("no readable metrics.json", where=str(folder), fix="Run the recipe first")
    examples = _json(folder / "examples.json")
    recipe = folder / "recipe.yaml"
    text = recipe.read_text("utf-8") if recipe.is_file() else ""
    rows = read_log(folder / "log.jsonl")
    names = _json(folder / "names.json")
    whole = isinstance(names, dict) and {"titles", "codes", "n_items"} <= set(names)
    users = examples if isinstance(examples, list) else []
    return render(metrics, rows, users, text, names if whole else None)


def render(
    metrics: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
    recipe: str,
    names: Mapping[str, Any] | None = None,
) -> str:
    """The page as HTML; ``names`` is what :func:`onoma.evaluation.names_page.names_map` gives."""
    data = _map(metrics, "dataset")
    protocol = _map(metrics, "protocol")
    title = f"{metrics.get('recipe', 'run')} on {data.get('name', 'unnamed data')}"
    masked = "masked" if protocol.get("mask_seen", True) else "kept"
    subtitle = (
        f"{protocol.get('split', 'unknown split')}, ties by {protocol.get('ties', '?')}, "
        f"{protocol.get('ranked', 'whole catalogue')} ranked, seen items {masked}, "
        f"seed {metrics.get('seed', 0)}"
    )
    return page(
        title,
        subtitle,
        [
            headline(metrics),
            _against(metrics),
            curves_section(log),
            _every_metric(metrics),
            _slices(metrics),
            _language(metrics),
            written_section(metrics),
            clicks_section(metrics),
            blend_section(metrics),
            search_section(metrics),
            health_section(_map(metrics, "health")),
            names_section(names) if names else "",
            _examples(examples),
            _small_print(metrics, recipe),
        ],
        names_style() if names else "",
    )


def headline(metrics: Mapping[str, Any]) -> str:
    """The cards at the head of a report."""
    test, data, seconds = (_map(metrics, name) for name in ("test", "dataset", "seconds"))
    k = _cut(test)
    entries = []
    for name, label in (("ndcg", f"NDCG@{k}"), ("recall", f"Recall@{k}")):
        key = f"{name}@{k}"
        if key in test:
            low, high = _interval(test, key)
            small = "test" if low is None else f"{number(low)} to {number(high)}"
            entries.append((label, number(test[key]), small))
    if "auc" in test:
        low, high = _interval(test, "auc")
        small = "test" if low is None else f"{number(low)} to {number(high)}"
        entries.append(("AUC", number(test["auc"]), small))
    if data:
        small = f"{number(data.get('users'))} users, {number(data.get('items'))} items"
        entries.append(("Test cases", number(test.get("cases", data.get("test_cases"))), small))
    if "total" in seconds:
        train = seconds.get("train", 0.0)
        entries.append(("Time", _duration(seconds["total"]), f"training {_duration(train)}"))
    if metrics.get("parameters"):
        small = f"peak memory {number(metrics.get('peak_memory_mb'))} MB"
        entries.append(("Parameters", number(metrics["parameters"]), small))
    return cards(entries) if entries else ""


def _against(metrics: Mapping[str, Any]) -> str:
    """Our modes and the published figures, drawn and listed."""
    test, published = _map(metrics, "test"), _map(metrics, "published")
    modes = _map(metrics, "modes") or {"": test}
    k = _cut(test)
    name = str(metrics.get("recipe", "ours"))
    ours = {
        name + (f", {_MODES.get(mode, mode)}" if len(modes) > 1 else ""): figures
        for mode, figures in modes.items()
    }
    other = {f"{name}, same cases": f for name, f in _map(metrics, "beside").items()}
    other |= majority(test)
    other |= {f"{source} (published)": figures for source, figures in published.items()}
    charts = []
    drawn_keys = ((f"ndcg@{k}", f"NDCG@{k}"), (f"recall@{k}", f"Recall@{k}"), ("auc", "AUC"))
    for key, label in drawn_keys:
        dots = [
            Dot(row, figures[key], *_interval(figures, key), ours=place < len(ours))
            for place, (row, figures) in enumerate({**ours, **other}.items())
            if isinstance(figures.get(key), int | float)
        ]
        if len(dots) > 1:
            charts.append(dot_chart(label, dots))
    keys = [f"{m}@{c}" for c in (5, 10) for m in ("recall", "ndcg") if f"{m}@{c}" in test]
    keys += [key for key in ("auc", "uauc") if key in test]
    rows = [[row, *(_cell(f, key) for key in keys)] for row, f in {**ours, **other}.items()]
    note = "Intervals are 95 % bootstrap intervals over test cases, of one training seed."
    if published:
        note += " Published figures are the papers' own and may rest on another protocol."
    drawn = f'<div class="pair">{"".join(charts)}</div><br>' if charts else ""
    return section("Test", drawn, table(["", *keys], rows, strong=len(ours)), note=note)


def _every_metric(metrics: Mapping[str, Any]) -> str:
    test = _map(metrics, "test")
    others = {
        "validation": _map(metrics, "valid"),
        "test, seen items kept": _map(metrics, "test_unmasked"),
        "test, seen items masked": _map(metrics, "test_masked"),
    }
    others = {name: figures for name, figures in others.items() if figures}
    keys = [k for k in test if k.partition("@")[0] in _NAMES and k.partition("@")[2].isdigit()]
    keys.sort(key=lambda key: (_NAMES.index(key.partition("@")[0]), int(key.partition("@")[2])))
    rows = []
    for key in keys:
        low, high = _interval(test, key)
        span = "–" if low is None else f"{number(low)} to {number(high)}"
        rows.append([key, number(test[key]), span, *(number(f.get(key)) for f in others.values())])
    listed = table(["metric", "test", "95 % interval", *others], rows)
    beyond = [[name, number(value)] for name, value in _map(test, "beyond").items()]
    more = table(["beyond accuracy", "test"], beyond)
    return section("Every metric", details("All cut-offs, validation, other masking", listed),
                   details("Coverage, novelty, diversity, popularity", more))  # fmt: skip


def _slices(metrics: Mapping[str, Any]) -> str:
    test = _map(metrics, "test")
    slices = _map(test, "slices") or _map(metrics, "slices")
    k = _cut(test)
    told = _map(test, "formulas")
    largest = max((s.get(f"ndcg@{k}", 0.0) for s in slices.values()), default=0.0)
    rows = []
    for name, figures in slices.items():
        ndcg = figures.get(f"ndcg@{k}", 0.0)
        words = told.get(name, "")
        label = Markup(esc(name) + (f'<div class="small">{esc(words)}</div>' if words else ""))
        rows.append(
            [
                label,
                number(figures.get("cases")),
                f"{100 * figures.get('share', 0.0):.1f} %",
                number(figures.get(f"recall@{k}")),
                Markup(number(ndcg) + bar(ndcg, largest)),
            ]
        )
    head = ["slice", "cases", "share", f"recall@{k}", f"ndcg@{k}"]
    return section("Where it works", table(head, rows))


def _language(metrics: Mapping[str, Any]) -> str:
    """What the language model was asked, what became of its answers, what it cost."""
    told = _map(metrics, "language")
    if not told:
        return ""
    answers, usage = _map(told, "answers"), _map(told, "usage")
    asked = max(float(answers.get("asked", 0)), 1.0)
    rows = [[name, number(count), f"{count / asked:.1%}"] for name, count in answers.items()]
    spent = [[name.replace("_", " "), number(value)] for name, value in usage.items()]
    return section(
        f"The language model: {told.get('model', '')}",
        table(["answers", "", "of those asked"], rows),
        table(["used", ""], spent),
        _cost(metrics),
        note=told.get("note", _NONE_LEFT_OUT),
    )


def _cost(metrics: Mapping[str, Any]) -> str:
    """What one test case took, what a thousand tokens gained, and bad answers as the worst."""
    test, cost = _map(metrics, "test"), _map(metrics, "cost")
    took = [
        [name.replace("_", " "), number(float(cost[name]), 1)]
        for name in ("calls", "prompt_tokens", "reused_tokens", "completion_tokens")
        if name in cost
    ]
    chance, gain, worst = _map(cost, "random"), _map(cost, "gain"), _map(test, "worst")
    rows = [
        [key, number(test.get(key)), number(worst.get(key)), number(chance.get(key)),
         number(gain.get(key))]
        for key in (chance or worst)
        if key.startswith(("ndcg", "mrr"))
    ]  # fmt: skip
    head = ["", "test", "answers of no use as 0", "any order", "gained by 1,000 tokens"]
    return table(["one test case took", ""], took) + table(head, rows)


def curves_section(log: Sequence[Mapping[str, Any]]) -> str:
    """Training loss and validation figures by epoch, from the rows of ``log.jsonl``."""

    def points(key: str) -> list[tuple[float, float]]:
        return [(row["epoch"], row[key]) for row in log if _is(row.get("epoch"), row.get(key))]

    judged = next((key for row in log for key in row if key.startswith("valid_")), "valid_ndcg@10")
    loss, valid = points("loss"), points(judged)
    best = max(range(len(valid)), key=lambda place: valid[place][1]) if valid else None
    charts = line_chart("Training loss by epoch", loss, decimals=3) + line_chart(
        f"Validation {judged.removeprefix('valid_').upper()} by epoch", valid, mark=best
    )
    note = "The weights are those of the best validation epoch; test never chooses."
    return section("Training", f'<div class="pair">{charts}</div>' if charts else "", note=note)


def _examples(examples: Sequence[Mapping[str, Any]]) -> str:
    users = []
    for example in examples:
        target = {str(title) for title in example.get("target", [])}
        told = "".join(
            f'<li class="yes">{esc(title)}</li>' if title in target else f"<li>{esc(title)}</li>"
            for title in example.get("recommended", [])
            if title
        )
        hit = bool(example.get("hit"))
        tag = f'<span class="tag{" yes" if hit else ""}">{"found" if hit else "missed"}</span>'
        had = " · ".join(esc(title) for title in example.get("history", []))
        came = " · ".join(esc(title) for title in example.get("target", []))
        users.append(
            f'<div class="user"><h3>User {esc(example.get("user", "?"))}{tag}</h3>'
            f"<h4>had, oldest first</h4><p>{had or '–'}</p><h4>then took</h4><p>{came}</p>"
            f"<h4>we said</h4><ol>{told}</ol></div>"
        )
    note = "Users drawn at random with a fixed seed, not chosen for their success."
    return section("Users", f'<div class="pair">{"".join(users)}</div>' if users else "", note=note)


def _small_print(metrics: Mapping[str, Any], recipe: str) -> str:
    formulas = _map(_map(metrics, "test"), "formulas") or _map(metrics, "formulas")
    facts = {**_map(metrics, "dataset"), **_map(metrics, "protocol")}
    facts |= {f"seconds, {name}": value for name, value in _map(metrics, "seconds").items()}
    facts["answers outside the catalogue"] = metrics.get("invalid_items", 0)
    return section(
        "How it was measured",
        details("Formulas", _terms(formulas)),
        details("Data, protocol, time", _terms(facts)),
        details("Recipe", pre(recipe) if recipe else ""),
    )


def _terms(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>" for name, value in facts.items())
    return f"<dl>{rows}</dl>" if rows else ""


def _cell(figures: Mapping[str, Any], key: str) -> str:
    low, high = _interval(figures, key)
    text = number(figures.get(key))
    if low is None or high is None:
        return text
    return Markup(f'{text}<span class="small">± {(high - low) / 2:.4f}</span>')


def _interval(figures: Mapping[str, Any], key: str) -> tuple[float | None, float | None]:
    known = _map(figures, "ci95").get(key)
    return (float(known[0]), float(known[1])) if known else (None, None)


def _cut(figures: Mapping[str, Any]) -> int:
    """The k of the headline: 10 where it was measured, else the largest."""
    known = [int(key[5:]) for key in figures if key.startswith("ndcg@") and key[5:].isdigit()]
    return 10 if 10 in known or not known else max(known)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _is(*values: object) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _map(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return dict(found) if isinstance(found, Mapping) else {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line cut off by a crash is left out."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict)]
