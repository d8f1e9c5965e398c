"""``onoma study profiles``: does a kept profile stand in for all that somebody wrote?

Bang and Song, "LLM-based User Profile Management for Recommender System", 2025 (PURE), the
continuous task.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Cases, Dataset, Ragged, split
from onoma.dataset.files import write_text
from onoma.dataset.load import load
from onoma.encoding.sentence import Sentence, model_folder
from onoma.errors import OnomaError
from onoma.evaluation.candidates import short_lists
from onoma.evaluation.metrics import metrics
from onoma.evaluation.significance import bootstrap_ci
from onoma.language import BadAnswer, Decoding, LanguageModel
from onoma.language.templates import Template, joined, lettered, line
from onoma.recommenders.language.base import ModelSpec, language_model
from onoma.recommenders.language.memory import Embed, Memory, Profile, Review, duplicates
from onoma.recommenders.language.profile import NOTHING, ordered, whole
from onoma.recommenders.retrieval.keywords import Keywords

ARMS = ("titles", "reviews", "recent", "summary", "profile")
KEYS = ("ndcg@1", "ndcg@5", "ndcg@10", "recall@1", "recall@5", "recall@10")
_KS = (1, 5, 10)
_ABOUT = {
    "titles": "the latest titles alone",
    "reviews": "all reviews, the latest that fit the limit",
    "recent": "the last two reviews",
    "summary": "a summary, rewritten after each review",
    "profile": "likes, dislikes and features (PURE)",
}


@dataclass(frozen=True)
class Told:
    """What each arm tells after each review of one user.

    Attributes:
        reviews: of the user, oldest first.
        items: int codes, aligned.
        said: by arm, one text a review.
        profiles: after each review, with the updater.
        plain: likewise without it.
    """

    reviews: list[Review]
    items: list[int]
    said: dict[str, list[str]]
    profiles: list[Profile]
    plain: list[Profile]


def profiles(
    data: str,
    out: str | Path,
    *,
    model: ModelSpec = "smollm2",
    cases: int = 4,
    steps: int = 2,
    reviews: int = 5,
    most: int = 6,
    candidates: int = 20,
    limit: int = 2000,
    cap: int = 5,
    domain: str = "products",
    arms: Sequence[str] = ARMS,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Reveal the reviews of users one by one and predict the next item each time.

    Before item t + 1 is asked for, every arm knows the reviews up to t and nothing of t + 1. All
    arms rank the same candidates in the same order: the item that came next and others drawn by
    their popularity among the users who are not studied, in an order drawn by seed. An answer of no
    use is a miss. Tokens are word pieces of MiniLM, so that they are the same for all models.

    Args:
        data: a data set with reviews (column ``review_text``).
        out: ``profiles.json`` and ``profiles.html`` go here.
        model: a language model, of :func:`onoma.language.opening.open_model`.
        cases: users, drawn by seed.
        steps: the last predictions of each user that are made.
        reviews: different reviews that a user must have.
        most: of a user's reviews, the latest ones that are read.
        candidates: of each prediction.
        limit: tokens of reviews that the arm ``reviews`` may tell.
        cap: entries of a list of a profile.
        domain: how one speaks of the items.
        arms: of ``ARMS``.
        seed: of users, candidates and their order.
        tell: called with a line after each user.

    Returns:
        ``dataset``, ``model``, ``rows`` (one an arm), ``last`` (tokens and NDCG at the last step),
        ``steps`` (NDCG by reviews known), ``duplicates``, ``answers``, ``acceptance``.

    Raises:
        OnomaError: no reviews, no such users, or an unknown arm.
    """
    if unknown := set(arms) - set(ARMS):
        raise OnomaError(f"no arm is called {min(unknown)!r}", fix=f"Known: {', '.join(ARMS)}")
    dataset, language = load(data), language_model(model)
    log = _log(dataset)
    wrote = log.group_by("user").len().filter(pl.col("len") >= reviews).sort("user")["user"]
    if not len(wrote):
        raise OnomaError(f"nobody wrote {reviews} different reviews", where=dataset.name,
                         fix="Lower --reviews")  # fmt: skip
    users = np.sort(np.random.default_rng(seed).permutation(wrote.to_numpy())[:cases])
    others = replace(
        dataset, interactions=dataset.interactions.filter(~pl.col("user").is_in(users.tolist()))
    )
    parts = split(others, "leave-one-out")
    names = _names(dataset, Keywords(encoder=None).fit(parts))
    embed, count = Sentence(quiet=True).encode_texts, _counter()
    template, summary = Template.load("rank-told"), Template.load("profile-summary")
    answers: dict[str, Counter[str]] = {arm: Counter() for arm in ARMS}
    found: list[dict[str, Any]] = []
    profile_tokens, repeats = [], {"without": [0, 0], "updated": [0, 0]}
    for user in users.tolist():
        own = log.filter(pl.col("user") == user).tail(most)
        told = _told(own, names, language, embed, count, summary, limit, cap, domain, arms, answers)
        profile_tokens += [count(str(one)) for one in told.profiles if one]
        for name, kept in (("updated", told.profiles), ("without", told.plain)):
            if kept:
                twice, total = duplicates(kept[-1], embed)
                repeats[name][0] += twice
                repeats[name][1] += total
        for step in range(max(len(told.items) - steps, 1), len(told.items)):
            known = np.array(told.items[:step], dtype=np.int32)
            case = Cases(
                np.array([user], np.int32), Ragged.from_rows([known]),
                Ragged.from_rows([told.items[step : step + 1]]),
            )  # fmt: skip
            listed = short_lists(case, parts, candidates - 1, "popularity", seed)[0]
            listed = np.random.default_rng([seed, user, step]).permutation(listed)
            for arm in arms:
                messages = template.messages(
                    domain,
                    told=told.said[arm][step - 1] or NOTHING,
                    history=joined([names[item] for item in known[-3:]], "; "),
                    candidates=lettered([names[item] for item in listed]),
                )
                ranked = _ranked(language, messages, listed, answers[arm])
                figures = metrics(ranked[None, :], case.targets, _KS)
                found.append({
                    "arm": arm, "user": user, "known": step,
                    "last": step == len(told.items) - 1,
                    "tokens": sum(count(part["content"]) for part in messages),
                    "told": count(told.said[arm][step - 1]),
                    **{key: float(figures[key][0]) for key in KEYS},
                })  # fmt: skip
        tell(f"{len(told.items)} reviews of user {dataset.users['user_id'][user]}")
    result = _result(dataset, language, found, arms, seed, answers, repeats, profile_tokens)
    result |= {"users": len(users), "candidates": candidates, "limit": limit, "cap": cap}
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", out / "profiles.json")
    write_text(_page(result), out / "profiles.html")
    return result


def _log(dataset: Dataset) -> pl.DataFrame:
    """Reviews in time order, each text and each item of a user once."""
    log = dataset.interactions.with_row_index("row")
    if "review_text" not in log.columns:
        raise OnomaError(
            "the interactions have no reviews (column review_text)", where=dataset.name,
            fix="Use data with reviews",
        )  # fmt: skip
    log = log.with_columns(pl.col("review_text").fill_null("").str.strip_chars())
    log = log.filter(pl.col("review_text") != "").sort("user", "timestamp", "row")
    for key in ("item", "review_text"):
        log = log.unique(["user", key], keep="first", maintain_order=True)
    return log


def _names(dataset: Dataset, keywords: Keywords) -> list[str]:
    """Titles; where there is none, what the users who are not studied say of the item."""
    titles = dataset.items["title"].to_list()
    said = keywords.of_items(np.arange(dataset.n_items), 4)
    ids = dataset.item_ids
    return [
        title or ", ".join(words) or str(ids[code])
        for code, (title, words) in enumerate(zip(titles, said, strict=True))
    ]


def _told(
    own: pl.DataFrame,
    names: Sequence[str],
    language: LanguageModel,
    embed: Embed,
    count: Callable[[str], int],
    summary: Template,
    limit: int,
    cap: int,
    domain: str,
    arms: Sequence[str],
    answers: Mapping[str, Counter[str]],
) -> Told:
    stars = own["rating"].to_list() if "rating" in own.columns else [None] * own.height
    items = own["item"].to_list()
    read = [
        Review(names[item], text, float("nan") if given is None else float(given), row)
        for item, text, given, row in zip(
            items, own["review_text"].to_list(), stars, own["row"].to_list(), strict=True
        )
    ]
    written = [f"{one.item}: {line(one.text, 4000)}" for one in read]
    said: dict[str, list[str]] = {
        "titles": ["" for _ in read],
        "reviews": [_fitting(written[: t + 1], limit, count) for t in range(len(read))],
        "recent": ["\n".join(written[max(0, t - 1) : t + 1]) for t in range(len(read))],
    }
    kept: list[Profile] = []
    plain: list[Profile] = []
    if "profile" in arms:
        memory = Memory(language, embed, cap, domain=domain)
        grown = Memory(language, embed, cap, updater=False, domain=domain)
        for one in read[:-1]:  # the last review is never known to anybody
            after, counts = memory.read(kept[-1] if kept else Profile(), one)
            answers["profile"].update(counts)
            kept.append(after)
            plain.append(grown.read(plain[-1] if plain else Profile(), one)[0])
        said["profile"] = [str(one) for one in kept]
    if "summary" in arms:
        so_far = ""
        said["summary"] = []
        for one in read[:-1]:
            messages = summary.messages(
                domain, summary=so_far or NOTHING, item=line(one.item), review=line(one.text, 2000)
            )
            try:
                so_far = line(
                    language.complete(messages, decoding=Decoding(max_tokens=90)).text, 600
                )
            except BadAnswer as bad:
                # A summary that was cut is one up to there.
                so_far = line(bad.text, 600) or so_far
                answers["summary"][f"summary {bad.kind}"] += 1
            said["summary"].append(so_far)
    return Told(read, items, said, kept, plain)


def _fitting(written: Sequence[str], limit: int, count: Callable[[str], int]) -> str:
    """The latest texts that have at most ``limit`` tokens together, oldest first."""
    out: list[str] = []
    room = limit
    for text in reversed(written):
        room -= count(text)
        if room < 0 and out:
            break
        out.insert(0, text)
    return "\n".join(out)


def _ranked(
    language: LanguageModel,
    messages: Sequence[Mapping[str, Any]],
    listed: NDArray[np.integer],
    answers: Counter[str],
) -> NDArray[np.int32]:
    """The candidates in the order of the model; -1 throughout where the answer is of no use."""
    answers["ranked"] += 1
    try:
        order, repaired = whole(ordered(language, messages, len(listed)), len(listed))
    except BadAnswer as bad:
        answers[f"rank rejected: {bad.kind}"] += 1
        return np.full(len(listed), -1, dtype=np.int32)
    answers["letters repaired"] += repaired
    return listed[order].astype(np.int32)


def _counter() -> Callable[[str], int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("minilm"), local_files_only=True)
    tokenizer.model_max_length = 10**9
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _result(
    dataset: Dataset,
    language: LanguageModel,
    found: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    seed: int,
    answers: Mapping[str, Counter[str]],
    repeats: Mapping[str, Sequence[int]],
    sizes: Sequence[int],
) -> dict[str, Any]:
    frame = pl.DataFrame(list(found))
    rows = []
    for arm in arms:
        own = frame.filter(pl.col("arm") == arm)
        low, high = bootstrap_ci(own["ndcg@10"].to_numpy(), seed=seed)
        last = own.filter(pl.col("last"))
        ends = ("tokens", "told", "ndcg@10")
        rows.append({
            "arm": arm, "predictions": own.height,
            **{str(key): float(own[key].to_numpy().mean()) for key in (*KEYS, "tokens", "told")},
            "low": float(low), "high": float(high),
            "last": {key: float(last[key].to_numpy().mean()) for key in ends},
            "answers": dict(sorted(answers[arm].items())),
        })  # fmt: skip
    by = frame.group_by("arm", "known").agg(pl.col("ndcg@10").mean(), pl.len().alias("users"))
    shares = {name: twice / total if total else 0.0 for name, (twice, total) in repeats.items()}
    return {
        "dataset": {"name": dataset.name, "hash": dataset.hash},
        "model": language.identity,
        "seed": seed,
        "rows": rows,
        "steps": by.sort("arm", "known").to_dicts(),
        "duplicates": shares,
        "profile_tokens": float(np.mean(sizes)) if sizes else 0.0,
        "usage": language.meter.report(),
        "acceptance": _acceptance({str(row["arm"]): row for row in rows}, shares),
    }


def _acceptance(
    rows: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float]
) -> list[dict[str, Any]]:
    asked = []
    if {"reviews", "profile"} <= rows.keys():
        ours, all_ = rows["profile"]["last"], rows["reviews"]["last"]
        share = ours["tokens"] / all_["tokens"]
        told = ours["told"] / max(all_["told"], 1)
        asked.append(("last step: a prompt of at most 40 % of the tokens of that with all reviews",
                      f"{share:.0%} ({ours['tokens']:.0f} by {all_['tokens']:.0f}; of what is told "
                      f"of the user {told:.0%})", share <= 0.4))  # fmt: skip
        kept = ours["ndcg@10"] >= 0.95 * all_["ndcg@10"]
        asked.append(("and NDCG@10 at least 0.95 of its",
                      f"{ours['ndcg@10']:.3f} by {all_['ndcg@10']:.3f}", kept))  # fmt: skip
    if "profile" in rows:
        twice, plain = shares["updated"], shares["without"]
        asked.append(("without the updater the share of duplicates at least doubles",
                      f"{plain:.1%} by {twice:.1%}", plain > 0 and plain >= 2 * twice))  # fmt: skip
    return [{"system": "S049", "asked": a, "measured": m, "holds": bool(h)} for a, m, h in asked]


def _page(result: Mapping[str, Any]) -> str:
    from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table

    rows = result["rows"]
    dots = [Dot(row["arm"], row["ndcg@10"], row["low"], row["high"], ours=row["arm"] == "profile")
            for row in rows]  # fmt: skip
    lines = [
        [row["arm"], _ABOUT[row["arm"]], *(number(row[key]) for key in KEYS),
         number(row["tokens"], 0), number(row["told"], 0)]
        for row in rows
    ]  # fmt: skip
    note = (
        f"{result['users']} users of {result['dataset']['name']} (hash "
        f"{result['dataset']['hash']}), {rows[0]['predictions']} predictions an arm of "
        f"{result['candidates']} candidates, model {result['model']}; each prediction knows what "
        "was written before. 95 % bootstrap intervals over predictions. Tokens of the whole prompt "
        "and of what it tells of the user."
    )
    parts = [
        section("Next item", dot_chart("NDCG@10: more is better", dots),
                table(["arm", "told", *KEYS, "tokens", "of these told"], lines), note=note),
        section("As reviews come in", table(
            ["arm", "reviews known", "NDCG@10", "users"],
            [[one["arm"], one["known"], number(one["ndcg@10"]), one["users"]]
             for one in result["steps"]])),
        section("What was asked", table(
            ["asked", "measured", "holds"],
            [[one["asked"], one["measured"], "yes" if one["holds"] else "no"]
             for one in result["acceptance"]])),
        section("Answers of no use", table(
            ["arm", "what", "times"],
            [[row["arm"], what, times] for row in rows for what, times in row["answers"].items()])),
    ]  # fmt: skip
    return page(
        "Does a kept profile stand in for the reviews?", "One review after the other.", parts
    )
