"""``onoma study prompting``: what a language model is worth as a recommender, task by task."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onoma.dataset import Dataset, split
from onoma.dataset.clean import minimum_rating
from onoma.dataset.files import write_text
from onoma.dataset.load import load
from onoma.errors import OnomaError
from onoma.evaluation.candidates import sampled
from onoma.language import LanguageModel
from onoma.language.taped import spent
from onoma.recommenders.language.base import ModelSpec, language_model
from onoma.study import prompting_lists as lists
from onoma.study import prompting_probes as probes
from onoma.study import prompting_words as words
from onoma.study.prompting_page import page
from onoma.study.rating_sheet import write_sheets

PARTS = ("ratings", "texts", "lists", "order", "again", "ordering", "memory")
LIKED = 3.0  # stars from which on an interaction counts in the lists (S053)
GAIN, PARSED = 0.15, 0.98  # what S112 asks of the rating task


def prompting(
    data: str,
    out: str | Path,
    *,
    reviews: str | None = None,
    model: ModelSpec = "smollm2",
    cases: int = 5,
    rated: int = 200,
    parts: Sequence[str] = PARTS,
    domain: str = "movies",
    reviewed: str = "products",
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run the tasks of S112 and the settings of S053 with one language model.

    Ratings, explanations and summaries come from a log with reviews, everything else from one
    with titles. Only validation chooses (the settings of the classic recommenders); the language
    model is as it comes.

    Args:
        data: what is ranked: a folder or file, or ``packaged:movielens``; interactions rated
            below three stars are left out where there are ratings.
        out: ``prompting.json``, ``prompting.html``, and for people to judge ``sheet-1.csv``,
            ``sheet-2.csv`` and ``sheet-key.csv`` go here.
        reviews: what is rated, explained and summed up; default ``data``, where it has reviews.
        model: which language model.
        cases: users of the list tasks, texts of each text task, and rows of the memory probe.
        rated: test ratings of the rating task.
        parts: of :data:`PARTS`.
        domain: how one speaks of the items of ``data``.
        reviewed: how one speaks of those of ``reviews``.
        seed: of the cases, of shuffles and of letters.
        tell: called with a line after each part.

    Returns:
        ``model``, ``data`` and ``reviews`` (name, hash, sizes), ``cases``, one entry a part (or
        ``skipped`` with the reason), ``ordering`` (popularity and coverage of three baselines),
        ``cost`` (by part: calls, tokens, seconds, money) and ``acceptance``.

    Raises:
        OnomaError: an unknown part, bad data, or a model that cannot be used.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise OnomaError(
            f"no part is called {unknown[0]!r}", where="study prompting",
            fix=f"Known: {', '.join(PARTS)}",
        )  # fmt: skip
    language = language_model(model)
    ranked = load(data)
    written = ranked if reviews is None else load(reviews)
    result: dict[str, Any] = {
        "model": language.identity,
        "data": _about(ranked),
        "reviews": _about(written),
        "cases": cases,
        "seed": seed,
        "cost": {},
        "skipped": {},
    }

    def part(
        name: str, run: Callable[[], Any], why_not: str = "", asks: ModelSpec | None = None
    ) -> None:
        if name not in parts:
            return
        if why_not:
            result["skipped"][name] = why_not
            tell(f"{name}: skipped, {why_not}")
            return
        who = language if asks is None else language_model(asks)
        began, _ = time.monotonic(), spent(who).reset()
        result[name] = run()
        result["cost"][name] = {
            **_cost(who), "wall_seconds": round(time.monotonic() - began, 1)
        }  # fmt: skip
        tell(f"{name}: {result['cost'][name]['wall_seconds']:.0f} s")

    columns = written.interactions.columns
    log = split(written) if {"ratings", "texts"} & set(parts) else None
    if log is not None:
        part(
            "ratings",
            lambda: words.ratings(language, log, domain=reviewed, cases=rated, seed=seed),
            "" if "rating" in columns else "the log has no ratings",
        )
        part(
            "texts",
            lambda: words.texts(language, log, domain=reviewed, cases=cases, seed=seed),
            "" if {"rating", "review_text", "review_title"} <= set(columns)
            else "the log has no reviews",
        )  # fmt: skip
    if {"lists", "order", "again", "ordering"} & set(parts):
        if "rating" in ranked.interactions.columns:
            ranked = minimum_rating(ranked, LIKED)
        cut = split(ranked)
        drawn = sampled(cut.test, cases, seed)
        classic = lists.baselines(cut, tell)
        arms = lists.settings(model, cut, drawn, classic, domain)
        part("lists", lambda: {
            name: lists.figures(rows, cut, drawn) for name, rows in arms.items()
        })  # fmt: skip
        part("order", lambda: probes.order(
            [arms["sequential"][-2]], drawn.targets, seed
        ))  # fmt: skip
        part("again", lambda: probes.again(model, arms["free"][-2], cut),
             asks=probes.unkept(model))  # fmt: skip
        part("ordering", lambda: lists.ordering(cut, classic))
        result["protocol"] = {
            "split": cut.protocol, "users": len(drawn), "minimum stars": LIKED,
            "answers": lists.KS[-1], "named": 10,
        }  # fmt: skip
    part("memory", lambda: probes.memory(language, ranked, cases=cases, seed=seed))
    result["acceptance"] = acceptance(result)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", out / "prompting.json")
    write_text(page(result), out / "prompting.html")
    if "texts" in result:
        write_sheets(result["texts"]["samples"], out, seed=seed)
    return result


def acceptance(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What the two studies are held to, beside what was measured; None where a part is missing."""
    rows = []
    ranks = result.get("ordering")
    for system, asked, keys, key in (
        ("S053", "ARP of most popular above EASE above random", ("popular", "ease", "random"),
         "arp@10"),
        ("S053", "item coverage of random above EASE above most popular",
         ("random", "ease", "popular"), "coverage@10"),
    ):  # fmt: skip
        values = [ranks[name][key] for name in keys] if ranks else []
        rows.append({
            "system": system, "asked": asked,
            "measured": ", ".join(f"{value:.3g}" for value in values),
            "holds": bool(np.all(np.diff(values) < 0)) if values else None,
        })  # fmt: skip
    found = result.get("ratings")
    rows.append({
        "system": "S112",
        "asked": f"few-shot RMSE at least {GAIN:.0%} below zero-shot",
        "measured": "" if not found else
        f"{found['gain']:.1%} ({found['few-shot']['expected']['rmse']['mean']:.3f} by "
        f"{found['zero-shot']['expected']['rmse']['mean']:.3f}, {found['cases']} ratings)",
        "holds": found["gain"] >= GAIN if found else None,
    })  # fmt: skip
    parsed = [found[n]["expected"]["parsed"] for n in ("zero-shot", "few-shot")] if found else []
    rows.append({
        "system": "S112", "asked": f"at least {PARSED:.0%} of ratings parsed, the others errors",
        "measured": ", ".join(f"{share:.1%}" for share in parsed),
        "holds": min(parsed) >= PARSED if parsed else None,
    })  # fmt: skip
    return rows


def _about(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name, "hash": dataset.hash, "users": dataset.n_users,
        "items": dataset.n_items, "interactions": dataset.n_interactions,
    }  # fmt: skip


def _cost(language: LanguageModel) -> dict[str, Any]:
    """What the answers of a part took, also those that a tape remembers."""
    return dict(spent(language).report())
