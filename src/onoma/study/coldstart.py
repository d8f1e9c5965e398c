"""``onoma study coldstart``: few preferences, in items or in words, who ranks best by them?

Sanner, Balog, Radlinski, Wedin and Dixon, "Large Language Models are Competitive Near Cold-start
Recommenders for Language- and Item-based Preferences", RecSys 2023.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Ragged
from onoma.dataset.files import write_text
from onoma.dataset.load import load
from onoma.encoding.sentence import Sentence
from onoma.encoding.text import item_texts
from onoma.errors import OnomaError
from onoma.evaluation.significance import bootstrap_ci
from onoma.language import BadAnswer
from onoma.recommenders.base import Requests
from onoma.recommenders.language.base import ModelSpec, Question
from onoma.recommenders.language.preference import Preference, Told
from onoma.study.participants import LIKED, POOLS, Participant, World, simulate

K = 10
PARTS = ("all", "unbiased", "seen", "unseen", *POOLS)
FORMS = ("completion", "zero-shot", "few-shot")
TELLS: tuple[Told, ...] = ("items", "language", "both")
_SHOTS = 3
_DRAWS = 20  # orders over which the ranker by chance is averaged
_TOLD = {
    "random": "nothing", "popularity": "nothing", "ease": "items", "bm25-fusion": "language",
    "dense": "language",
}  # fmt: skip

Scores = Sequence[NDArray[np.floating] | None]


def coldstart(
    data: str,
    out: str | Path,
    *,
    model: ModelSpec | None = "smollm2",
    participants: int = 150,
    cases: int = 10,
    forms: Sequence[str] = FORMS,
    dislikes: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Simulate participants and let everybody rank the items that they rated.

    Gain is ``2^r - 1`` and nothing below three stars. Figures are given for all items, for those
    that were drawn and not recommended (unbiased), for those rated before and after the preferences
    were told (seen, unseen), and for each pool. A part counts for people who have at least one
    liked item in it. The three participants of few-shot prompts are among neither.

    Args:
        data: a log with ratings and a catalogue with texts.
        out: ``coldstart.json`` and ``coldstart.html`` go here.
        model: a language model that tells probabilities; None leaves it out.
        participants: people at most.
        cases: of these, those whose items the language model ranks.
        forms: of ``FORMS``.
        dislikes: whether the text of dislikes is told too, by rankers that read words.
        seed: of people, pools and draws.
        tell: called with a line after each ranker.

    Returns:
        ``dataset``, ``participants``, ``rows`` (over all), ``asked`` (over those whom the language
        model ranks for), ``acceptance``; a row has ``ranker``, ``told``, ``people`` and of each
        part mean, low, high and people.

    Raises:
        OnomaError: no ratings, too few users, an unknown form.
    """
    if unknown := set(forms) - set(FORMS):
        raise OnomaError(f"no form is called {min(unknown)!r}", fix=f"Known: {', '.join(FORMS)}")
    dataset = load(data)
    everybody, world = simulate(dataset, participants + _SHOTS, seed, tell)
    if len(everybody) <= _SHOTS:
        raise OnomaError("too few users can take part", where=dataset.name)
    shown, people = everybody[:_SHOTS], everybody[_SHOTS:]
    rankers = _plain(people, world, dislikes, seed)
    rows = [_row(name, _TOLD[name], people, scores, seed) for name, scores in rankers.items()]
    tell(f"{len(people)} participants, {len(rows)} rankers without a language model")
    asked: list[dict[str, Any]] = []
    usage, answers = {}, Counter[str]()
    if model is not None:
        few = people[:cases]
        asked = [_row(name, _TOLD[name], few, scores[: len(few)], seed)
                 for name, scores in rankers.items()]  # fmt: skip
        for form in forms:
            for told in TELLS:
                ranker = Preference(model, tells=told, form=form, seed=seed)  # type: ignore[arg-type]
                ranker.fit(world.parts).examples(_examples(shown))
                found = _asked(ranker, few, dislikes, answers)
                asked.append(_row(f"language model, {form}", told, few, found, seed))
                tell(f"{form}, {told}: NDCG@10 {asked[-1]['parts']['unbiased']['mean']:.3f} of "
                     "what was drawn")  # fmt: skip
                usage = ranker.language_report()
    result = {
        "dataset": {"name": dataset.name, "hash": dataset.hash},
        "participants": len(people),
        "dislikes": dislikes,
        "seed": seed,
        "rows": rows,
        "asked": asked,
        "language": {**usage, "answers": dict(answers)} if usage else {},
        "example": {"likes": people[0].likes, "dislikes": people[0].dislikes,
                    "liked": dataset.titles(people[0].liked)},
        "acceptance": _acceptance(rows, asked),
    }  # fmt: skip
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", out / "coldstart.json")
    write_text(_page(result), out / "coldstart.html")
    return result


def exponential_ndcg(
    scores: NDArray[np.floating], ratings: NDArray[np.floating], k: int = K
) -> float:
    """NDCG with gain ``2^r - 1``, 0 below three stars; equal scores share their gains.

    Args:
        scores: float[n], higher is better.
        ratings: float[n], 1 to 5.
        k: the cut.

    Returns:
        NaN where nothing has three stars.
    """
    gain = np.where(ratings >= 3, 2.0**ratings - 1, 0.0)
    discount = np.zeros(len(gain))
    discount[:k] = 1 / np.log2(np.arange(2, min(k, len(gain)) + 2))
    best = float((np.sort(gain)[::-1] * discount).sum())
    if best == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    _, group = np.unique(-scores[order], return_inverse=True)
    # Within equals, every order is as likely: each place has their mean gain.
    shared = (np.bincount(group, gain[order]) / np.bincount(group))[group]
    return float((shared * discount).sum() / best)


def _parts(one: Participant) -> dict[str, NDArray[np.bool_]]:
    drawn = one.pool < 2
    return {
        "all": np.ones(len(one.items), dtype=bool),
        "unbiased": drawn,
        "seen": one.seen,
        "unseen": ~one.seen,
        **{name: one.pool == place for place, name in enumerate(POOLS)},
    }


def _row(
    ranker: str, told: str, people: Sequence[Participant], scores: Scores, seed: int
) -> dict[str, Any]:
    """Mean NDCG@10 of each part with its interval over people; no answer counts as chance."""
    values: dict[str, list[float]] = {name: [] for name in PARTS}
    for one, found in zip(people, scores, strict=True):
        for name, kept in _parts(one).items():
            own = np.zeros(len(one.items)) if found is None else np.asarray(found)
            table = own if own.ndim == 2 else own[None, :]
            figures = [exponential_ndcg(row[kept], one.ratings[kept]) for row in table]
            values[name].append(float(np.mean(figures)) if kept.any() else float("nan"))
    parts = {}
    for name, figures in values.items():
        known = np.array([value for value in figures if np.isfinite(value)])
        low, high = bootstrap_ci(known, seed=seed) if len(known) else (np.nan, np.nan)
        mean = float(known.mean()) if len(known) else float("nan")
        parts[name] = {"mean": mean, "low": float(low), "high": float(high), "people": len(known)}
    return {"ranker": ranker, "told": told, "people": len(people), "parts": parts}


def _words(one: Participant, dislikes: bool) -> str:
    return f"{one.likes} {one.dislikes}".strip() if dislikes else one.likes


def _plain(
    people: Sequence[Participant], world: World, dislikes: bool, seed: int
) -> dict[str, Scores]:
    """Scores of each person's items by rankers without a language model."""
    texts = item_texts(world.dataset.items)
    encoder = Sentence(quiet=True)
    vectors = encoder.encode_texts(texts)
    said = encoder.encode_texts([_words(one, dislikes) for one in people])
    liked = Requests(Ragged.from_rows([one.liked for one in people]))
    ease = world.ease.score(liked).numpy()
    counts = world.parts.train_counts
    draw = np.random.default_rng(seed)
    return {
        "random": [draw.random((_DRAWS, len(one.items))) for one in people],
        "popularity": [counts[one.items].astype(np.float64) for one in people],
        "ease": [ease[row, one.items] for row, one in enumerate(people)],
        "bm25-fusion": [world.fusion.scores(_words(one, dislikes))[one.items] for one in people],
        "dense": [vectors[one.items] @ said[row] for row, one in enumerate(people)],
    }


def _examples(shown: Sequence[Participant]) -> list[dict[str, Any]]:
    """People as worked examples: what they say, and the item that they rated best."""
    return [
        {
            "items": one.liked.tolist(),
            "words": one.likes,
            "next": int(one.items[int(np.argmax(one.ratings))]),
        }
        for one in shown
        if float(one.ratings.max()) >= LIKED
    ]


def _asked(
    ranker: Preference, people: Sequence[Participant], dislikes: bool, answers: Counter[str]
) -> list[NDArray[np.float64] | None]:
    questions = [
        Question(row, -1, one.liked, one.items, _words(one, dislikes))
        for row, one in enumerate(people)
    ]
    out: list[NDArray[np.float64] | None] = []
    for found in ranker.judge(questions):
        answers["asked"] += 1
        if isinstance(found, BadAnswer):
            answers[f"rejected: {found.kind}"] += 1
        out.append(None if isinstance(found, BadAnswer) else found)
    return out


def _acceptance(
    rows: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    out = []
    for table in (rows, asked):
        named = {row["ranker"]: row["parts"]["unbiased"]["mean"] for row in table}
        ours = [row for row in table if row["told"] == "language"
                and (row["ranker"] == "dense" or row["ranker"].startswith("language"))]  # fmt: skip
        if not ours or (table is asked and len(ours) < 2):
            continue
        best = max(ours, key=lambda row: row["parts"]["unbiased"]["mean"])
        mean, people = best["parts"]["unbiased"]["mean"], best["people"]
        about = f"{best['ranker']} {mean:.3f}, {people} people"
        for asks, other, least in (
            ("words alone beat popularity by at least 0.03 NDCG@10", "popularity", 0.03),
            ("and are within 0.03 of EASE given five items", "ease", -0.03),
        ):
            out.append({"system": "S115", "asked": f"unbiased pool: {asks}",
                        "measured": f"{about}; {other} {named[other]:.3f}",
                        "holds": bool(mean - named[other] >= least)})  # fmt: skip
    return out


def _page(result: Mapping[str, Any]) -> str:
    from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table

    parts = []
    for key, title in (("rows", "Everybody"), ("asked", "Those the language model ranks for")):
        rows = result[key]
        if not rows:
            continue
        dots = [
            Dot(f"{row['ranker']} ({row['told']})", part["mean"], part["low"], part["high"],
                ours=row["told"] == "language")
            for row in rows
            for part in [row["parts"]["unbiased"]]
        ]  # fmt: skip
        lines = [
            [row["ranker"], row["told"],
             *(f"{number(p['mean'])} ({number(p['low'])} to {number(p['high'])})"
               for p in (row["parts"][name] for name in PARTS))]
            for row in rows
        ]  # fmt: skip
        note = (
            f"{rows[0]['people']} simulated participants of {result['dataset']['name']} (hash "
            f"{result['dataset']['hash']}); NDCG@10 with gain 2^stars - 1, nothing below three "
            "stars; 95 % bootstrap intervals over people. Unbiased: the two pools that were drawn. "
            "Seen: rated before the preferences were told. Random: mean of 20 orders."
        )
        parts.append(section(title, dot_chart("unbiased pool, NDCG@10: more is better", dots),
                             table(["ranker", "told", *PARTS], lines), note=note))  # fmt: skip
    asked = [[one["asked"], one["measured"], "yes" if one["holds"] else "no"]
             for one in result["acceptance"]]  # fmt: skip
    parts.append(section("What was asked", table(["asked", "measured", "holds"], asked)))
    said = result["example"]
    lines = [["likes", said["likes"]], ["dislikes", said["dislikes"]],
             ["items", "; ".join(said["liked"])]]  # fmt: skip
    parts.append(section("One participant", table(["", "told"], lines)))
    return page("Few preferences, in items or in words", "Who ranks best by them?", parts)
