"""``onoma study likelihood``: does the likelihood of titles tell what somebody likes, and why?

Sileo, Vossen and Raymaekers, "Zero-Shot Recommendation as Language Modeling", ECIR 2022: films
rated 5 against films rated 1 or 2, templates, lengths of the prompt. The controls are ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Ragged, Split
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.candidates import sampled
from onoma.evaluation.cost import Till
from onoma.evaluation.evaluate import Evaluation, evaluate
from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table
from onoma.evaluation.significance import bootstrap_ci, compare
from onoma.recipe import Recipe
from onoma.recommenders.base import Recommender
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.language.base import ModelSpec
from onoma.recommenders.language.likelihood import Likelihood
from onoma.run import asked, build, cut, load_data

LENGTHS = (1, 2, 3, 5, 7, 10, 15, 20)
TEMPLATES = (
    "likelihood-plain", "likelihood-like", "likelihood-like-colon", "likelihood-similar",
    "likelihood-similar-colon", "likelihood-liked",
)  # fmt: skip
KS = (1, 2, 3, 4, 5)
LEAST, FLOOR, MARGIN = 400, 0.24, 0.03  # of the acceptance lines


def likelihood(
    data: str,
    out: str | Path,
    *,
    recipe: str = "likelihood-llm",
    model: ModelSpec | None = None,
    cases: int | None = None,
    swept: int = 50,
    seed: int = 0,
    overrides: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure a likelihood recipe, its controls, and what templates and lengths make of it.

    Args:
        data: with ratings, as for :func:`onoma.run.run`.
        out: ``likelihood.json`` and ``likelihood.html`` go here.
        recipe: one whose recommender is ``likelihood-llm``.
        model: in place of the recipe's.
        cases: in place of the recipe's.
        swept: cases of each template and length.
        seed: of whose list stands in for whose.
        overrides: ``key=value`` words for the recipe.
        tell: called with a line after each arm.

    Returns:
        ``dataset``, ``protocol``, ``model``, ``cases``, ``arms`` (of each: the means at
        :data:`KS`, ``low`` and ``high`` of ``ndcg@1``, ``popularity`` of what came first in
        training interactions, the paired test ``against`` the recipe's own arm, ``tokens``),
        ``templates``, ``lengths`` (the same, on ``swept`` cases) and ``acceptance``.

    Raises:
        OnomaError: another recommender, or data without ratings.
    """
    raw = Recipe.load(recipe, list(overrides)).model_dump(mode="json")
    raw["data"]["path"] = data if data.startswith("packaged:") else str(Path(data).resolve())
    if model is not None:
        raw["recommender"]["model"] = model
    if cases is not None:
        raw["evaluate"]["cases"] = cases
    whole = Recipe.check(raw, recipe)
    if whole.recommender["name"] != Likelihood.name:
        raise OnomaError(
            f"the recommender is {whole.recommender['name']}", where=recipe,
            fix=f"Use a recipe of {Likelihood.name}",
        )  # fmt: skip
    parts = cut(whole, load_data(whole))
    own, lists = asked(whole, parts)
    if lists is None:
        raise OnomaError("no candidates", where=recipe, fix="Set evaluate.candidates")
    ours = build(whole).fit(parts)
    assert isinstance(ours, Likelihood)
    study = _Study(parts, own, lists, tell)
    main = study.arm("recipe", ours)
    study.arm("another user's list", ours, others(own, lists, seed), main)
    study.arm("pmi", _with(ours, parts, normalise="pmi"), against=main)
    study.arm("token", _with(ours, parts, normalise="token"), against=main)
    study.arm("popular", MostPopular().fit(parts), against=main)
    few = _Study(parts, *_few(own, lists, swept), tell)
    templates = {name: few.arm(name, _with(ours, parts, prompt=name)) for name in TEMPLATES}
    longest = int(few.cases.history.lengths.max())
    lengths = {
        k: few.arm(f"{k} titles", _with(ours, parts, recent=k)) for k in LENGTHS if k <= longest
    }
    result: dict[str, Any] = {
        "dataset": parts.describe(),
        "protocol": {
            "history": whole.evaluate.history,
            "ranked": whole.evaluate.candidates.told() if whole.evaluate.candidates else "",
            "positives": f"rated {whole.data.min_rating}",
        },
        "model": ours.language.identity,
        "cases": len(own),
        "arms": study.rows,
        "swept": len(few.cases),
        "templates": [few.rows[place] for place in range(len(templates))],
        "lengths": [few.rows[len(templates) + place] for place in range(len(lengths))],
        "acceptance": acceptance(study.rows, len(own)),
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "likelihood.json")
    write_text(_page(result), out / "likelihood.html")
    return result


def others(cases: Cases, candidates: NDArray[np.int32], seed: int) -> Cases:
    """The cases with the histories of other users, none of whom has a candidate in theirs."""
    order = np.random.default_rng(seed).permutation(len(cases))
    donor = np.empty(len(cases), dtype=np.int64)
    donor[order] = np.roll(order, 1)  # a ring: nobody keeps their own
    rows = [
        history[~np.isin(history, candidates[row])]
        for row, history in enumerate(cases.history[int(who)] for who in donor)
    ]
    return replace(cases, history=Ragged.from_rows(rows), times=None)


def acceptance(rows: Sequence[dict[str, Any]], cases: int) -> list[dict[str, Any]]:
    """What S026 asks, beside what was measured."""
    own, other, pmi = rows[0], rows[1], rows[2]
    lost = own["ndcg@1"] - other["ndcg@1"]
    return [
        {
            "system": "S026",
            "asked": f"one in five over at least {LEAST} users: 95 % lower bound at least {FLOOR}",
            "measured": f"{own['ndcg@1']:.3f} ({own['low']:.3f} to {own['high']:.3f}), "
            f"{cases} users",
            "holds": cases >= LEAST and own["low"] >= FLOOR,
        },
        {
            "system": "S026",
            "asked": f"another user's list is at least {MARGIN} worse",
            "measured": f"{other['ndcg@1']:.3f}, {lost:.3f} worse",
            "holds": lost >= MARGIN,
        },
        {
            "system": "S026",
            "asked": "PMI lowers the mean popularity of what comes first",
            "measured": f"{pmi['popularity']:.1f} against {own['popularity']:.1f} interactions",
            "holds": pmi["popularity"] < own["popularity"],
        },
    ]


class _Study:
    """Arms on the same cases and short lists."""

    def __init__(
        self, parts: Split, cases: Cases, lists: NDArray[np.int32], tell: Callable[[str], None]
    ) -> None:
        self.parts, self.cases, self.lists, self.tell = parts, cases, lists, tell
        self.rows: list[dict[str, Any]] = []

    def arm(
        self,
        name: str,
        model: Recommender,
        cases: Cases | None = None,
        against: Evaluation | None = None,
    ) -> Evaluation:
        """Measure, and add a row."""
        with Till(getattr(model, "languages", list)()) as till:
            # Candidates are never of the own list; another's list forbids nothing.
            found = evaluate(
                model, self.cases if cases is None else cases, self.parts, ks=KS, mask_seen=False,
                candidates=self.lists,
            )  # fmt: skip
        low, high = bootstrap_ci(found.metrics["ndcg@1"])
        used = till.used()
        row: dict[str, Any] = {
            "arm": name,
            **{f"{m}@{k}": found.mean(f"{m}@{k}") for k in KS for m in ("ndcg", "recall")},
            "low": float(low),
            "high": float(high),
            "popularity": float(self.parts.train_counts[found.ranking.items[:, 0]].mean()),
            "tokens": (used.prompt + used.completion) / len(found),
        }
        if against is not None:
            paired = compare(against.metrics["ndcg@1"], found.metrics["ndcg@1"])
            row["against"] = paired.as_dict()
        self.rows.append(row)
        self.tell(f"{name}: {row['ndcg@1']:.3f} ({row['low']:.3f} to {row['high']:.3f})")
        return found


def _with(model: Likelihood, parts: Split, **changes: Any) -> Likelihood:
    return Likelihood(**{**model.settings(), **changes}).fit(parts)


def _few(cases: Cases, lists: NDArray[np.int32], count: int) -> tuple[Cases, NDArray[np.int32]]:
    few = sampled(cases, count)
    return few, lists[np.searchsorted(cases.users, few.users)]


def _page(result: dict[str, Any]) -> str:
    head = ["", "first of five", "95 % interval", "NDCG@3", "popularity of the first", "tokens"]

    def lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
        return [
            [row["arm"], number(row["ndcg@1"]), f"{number(row['low'])} to {number(row['high'])}",
             number(row["ndcg@3"]), number(row["popularity"], 1), number(row["tokens"], 0)]
            for row in rows
        ]  # fmt: skip

    def chart(rows: Sequence[dict[str, Any]], ours: int = 0) -> str:
        dots = [Dot(row["arm"], row["ndcg@1"], row["low"], row["high"], place < ours)
                for place, row in enumerate(rows)]  # fmt: skip
        return dot_chart("share of cases whose target came first", dots)

    asked_for = [
        [row["asked"], row["measured"], "yes" if row["holds"] else "no"]
        for row in result["acceptance"]
    ]
    swept = f"On {result['swept']} of the cases."
    return page(
        f"Titles by their likelihood, {result['dataset']['name']}",
        f"{result['cases']} users, {result['protocol']['ranked']}, {result['model']}",
        [
            section("Arms", chart(result["arms"], 1), table(head, lines(result["arms"]), strong=1)),
            section("Templates", chart(result["templates"]),
                    table(head, lines(result["templates"])), note=swept),
            section("Titles in the prompt", chart(result["lengths"]),
                    table(head, lines(result["lengths"])), note=swept),
            section("What is asked", table(["", "measured", "holds"], asked_for)),
        ],
    )  # fmt: skip
