"""The page of ``onoma study prompting``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onoma.evaluation.report_page import details, number, pre, section, table
from onoma.evaluation.report_page import page as whole

_LISTS = {
    "free": ("Free lists", "Ten titles out of the model's own knowledge, found in the catalogue "
             "(S053, setting 1); in one row lists end there, in the other popular ones follow."),
    "given": ("Popular items put in order", "The twenty most popular, put in order with and "
              "without the user's profile (S053, setting 2)."),
    "neighbours": ("Neighbours' items put in order", "Twenty items of similar users (S053, "
                   "setting 3)."),
    "cold": ("Cold start", "The same for users of whom three ratings are known (S053, setting 4)."),
    "sequential": ("What comes next", "Titles without candidates (S112, sequential)."),
    "direct": ("Ten of a hundred", "One taken item among 99 drawn ones (S112, direct). All rows "
               "put the same hundred in order."),
}  # fmt: skip
_SHOWN = ("ndcg@10", "recall@10", "mrr@10", "map@10", "mar@10", "f1@10")
_BEYOND = ("coverage", "gini", "entropy", "epc", "efd", "arp", "aplt", "aclt", "pop_reo",
           "pop_rsp", "user_coverage", "retrieved")  # fmt: skip
_YES = {True: "yes", False: "no", None: "–"}


def page(result: Mapping[str, Any]) -> str:
    """One self-contained page; everything that comes from data or models is escaped."""
    about = result["data"]
    return whole(
        "A language model as recommender",
        f"{result['model']} on {about['name']} ({about['hash']}) and "
        f"{result['reviews']['name']} ({result['reviews']['hash']}), {result['cases']} cases",
        [
            section("Asked", table(["target", "measured", "holds"], [
                [f"{row['system']}: {row['asked']}", row["measured"] or "–", _YES[row["holds"]]]
                for row in result["acceptance"]
            ])),
            _ratings(result.get("ratings")),
            _texts(result.get("texts")),
            *(_setting(name, rows) for name, rows in result.get("lists", {}).items()),
            _probes(result),
            _cost(result["cost"]),
            section("Left out", table(["part", "why"], list(result["skipped"].items()))),
        ],
    )  # fmt: skip


def _ratings(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    rows = []
    for name in ("zero-shot", "few-shot", "training mean", "user's mean", "biases"):
        for kind, figures in found[name].items():
            label = f"{name}, {kind.replace('_', ' ')}" if "shot" in name else name
            rows.append([
                label, *(_span(figures[key]) for key in ("rmse", "mae")),
                f"{figures['parsed']:.1%}",
            ])  # fmt: skip
    note = (
        f"{found['cases']} test ratings; few-shot shows the user's own earlier ratings, at most "
        f"{found['shots']}. A rating that did not come counts with the largest possible error."
    )
    return section("Ratings", table(["", "RMSE", "MAE", "parsed"], rows), note=note)


def _texts(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    keys = ("bleu", "rouge1", "rouge2", "rougeL")
    rows: list[list[object]] = []
    for name, figures in found.items():
        if name == "samples":
            continue
        copied = figures["a training text of the item"]
        feature = figures.get("feature")
        rows.append([name, *(number(figures.get(key)) for key in keys), number(feature)])
        rows.append([f"{name}: a training text of the item",
                     *(number(copied.get(key)) for key in keys), "–"])  # fmt: skip
    samples = "\n\n".join(
        f"{one['task']} {one['case']}, {one['item']}, {one['rating']} of 5 ({one['source']})\n"
        f"{one['text'] or '(nothing)'}"
        for one in found["samples"]
    )
    head = ["", "BLEU-4", "ROUGE-1", "ROUGE-2", "ROUGE-L", "feature said"]
    note = (
        "Against what the user wrote. People judge the same texts on sheet-1.csv and sheet-2.csv."
    )
    return section("Explanations and summaries", table(head, rows),
                   details("The texts", pre(samples)), note=note)  # fmt: skip


def _setting(name: str, rows: list[dict[str, Any]]) -> str:
    title, note = _LISTS[name]
    figures = [
        [row["name"], *(_cell(row, key) for key in _SHOWN),
         number(row["against"]["p_holm"], 3) if "against" in row else "–",
         number(row["against"]["t"], 3) if "against" in row else "–",
         number(row["against"]["wilcoxon"], 3) if "against" in row else "–"]
        for row in rows
    ]  # fmt: skip
    others = [
        [row["name"], *(number(row["beyond"].get(f"{key}@10"), 3) for key in _BEYOND)]
        for row in rows
    ]
    every = [
        [f"{row['name']}, @{k}", *(number(row[f"{key}@{k}"]) for key in
         ("ndcg", "recall", "precision", "f1", "hit_rate", "map", "mar", "mrr"))]
        for row in rows for k in (10, 20, 50)
    ]  # fmt: skip
    answers = [
        [row["name"], "; ".join(f"{key} {value}" for key, value in sorted(row["answers"].items()))]
        for row in rows
        if "answers" in row
    ]
    return section(
        title,
        table(["", *_SHOWN, "p (Holm)", "p (t)", "p (Wilcoxon)"], figures),
        table(["", "answers of the language model"], answers),
        details("Coverage, novelty, popularity at 10", table(["", *_BEYOND], others)),
        details("At 10, 20 and 50", table(
            ["", "ndcg", "recall", "precision", "f1", "hit rate", "map", "mar", "mrr"], every
        )),
        note=f"{note} Tests are against the first row that is popular, else the first row.",
    )  # fmt: skip


def _probes(result: Mapping[str, Any]) -> str:
    parts = []
    if order := result.get("order"):
        parts.append(table(
            ["histories in another order", "identical", "overlap", "same first", "both empty",
             "ndcg@10 before", "after"],
            [[row["name"],
              *(number(row[key], 2) for key in ("identical", "overlap", "first", "empty")),
              *map(number, row["ndcg@10"])] for row in order],
        ))  # fmt: skip
    if again := result.get("again"):
        keys = ("identical", "overlap", "first", "empty")
        row = ["–"] * 4 if "skipped" in again else [number(again[key], 2) for key in keys]
        head = ["asked twice at temperature 0", "identical", "overlap", "same first", "both empty"]
        parts.append(table(head, [[again.get("skipped", f"{again.get('cases')} users"), *row]]))
    if memory := result.get("memory"):
        gain = memory["gain"]
        parts.append(table(
            ["does it know the files", "recalled", "chosen", "under a wrong number", "gain",
             "contaminated"],
            [[f"{memory['cases']} items", f"{memory['recalled']:.0%}", f"{memory['chosen']:.0%}",
              f"{memory['chosen_by_wrong_number']:.0%}", _span(gain),
              _YES[memory["contaminated"]]]],
        ))  # fmt: skip
    return section("Probes", *parts)


def _cost(cost: Mapping[str, Any]) -> str:
    keys = ("calls", "prompt_tokens", "reused_tokens", "completion_tokens", "seconds", "cost")
    rows = [[name, *(number(part[key], 2) for key in keys)] for name, part in cost.items()]
    note = "What the answers took when they were first given; repeated runs replay them."
    return section("Cost", table(["", *(key.replace("_", " ") for key in keys)], rows), note=note)


def _cell(row: Mapping[str, Any], key: str) -> str:
    low, high = row["ci95"][key]
    return f"{row[key]:.4f} ({low:.3f} to {high:.3f})"


def _span(figures: Mapping[str, float]) -> str:
    return f"{figures['mean']:.3f} ({figures['low']:.3f} to {figures['high']:.3f})"
