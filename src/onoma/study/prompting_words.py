"""The tasks of ``onoma study prompting`` whose answers are ratings and texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.dataset.events import log_rows
from onoma.evaluation.texts import Biases, coverage, star_intervals, text_figures
from onoma.language import BadAnswer, Decoding, LanguageModel, Message
from onoma.language.templates import Template, line
from onoma.recommenders.language.options import weighed
from onoma.recommenders.text.corpus import Corpus

STARS = ("1", "2", "3", "4", "5")
_ROOM = Decoding(max_tokens=80)
_STARRED = re.compile(r"(?:one|two|three|four|five) stars?", re.I)
_REVIEW = 1_000  # characters of a review that are told


def ratings(
    language: LanguageModel,
    split: Split,
    *,
    domain: str,
    cases: int,
    shots: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Predict test ratings from the item alone, then after the user's own earlier ratings.

    Earlier ratings are turns of the conversation: the same question about another item, and its
    answer.

    The likelihoods of the five digits give an expected and a most probable rating; a model that
    cannot weigh answers writes one digit, and both are that. Earlier means before the target in
    time, so no example is of the user's future. A rating that does not come counts with the
    largest error that is possible.

    Args:
        language: asked.
        split: with ratings in its log.
        domain: how one speaks of the items.
        cases: test ratings at most, drawn by seed among users with an earlier rating.
        shots: earlier ratings that are told at most, the latest ones.
        seed: of the draw.

    Returns:
        ``cases``; rows ``zero-shot`` and ``few-shot`` by ``expected`` and ``most_probable``, each
        as :func:`onoma.evaluation.texts.star_intervals`; the same of what needs no language model
        (``training mean``, ``user's mean``, ``biases``); ``gain``: by which share the few-shot
        RMSE is lower; ``answers``: counts of those of no use.
    """
    corpus, given = Corpus.of(split, "test", length=shots), _given(split)
    able = np.flatnonzero(
        ~np.isnan(corpus.stars) & np.array([bool(given.get(int(u))) for u in corpus.users])
    )
    drawn = np.sort(np.random.default_rng(seed).permutation(able)[:cases])
    stars = corpus.stars[drawn].astype(np.float64)
    template = Template.load("rate")

    def question(item: int) -> list[Message]:
        return list(template.messages(domain, item=line(corpus.titles[item])))

    def alone(event: int) -> list[Message]:
        return question(int(corpus.items[event]))

    def shown(event: int) -> list[Message]:
        *system, asked = alone(event)
        turns: list[Message] = []
        for item, value in given[int(corpus.users[event])][-shots:]:
            turns += [question(item)[-1], {"role": "assistant", "content": f"{value:g}"}]
        return [*system, *turns, asked]

    out: dict[str, Any] = {"cases": len(drawn), "shots": shots, "answers": {}}
    for name, ask in (("zero-shot", alone), ("few-shot", shown)):
        shares, bad = _weighed(language, [ask(int(event)) for event in drawn])
        values = np.arange(1, 6, dtype=np.float64)
        likely = np.where(np.isnan(shares[:, 0]), np.nan, 1.0 + np.nan_to_num(shares).argmax(1))
        out[name] = {
            "expected": star_intervals(shares @ values, stars),
            "most_probable": star_intervals(likely, stars),
        }
        out["answers"][name] = bad
    train = [(user, item, value) for user, rows in given.items() for item, value in rows]
    users, items, known = (np.array(column) for column in zip(*train, strict=True))
    biases = Biases(users, items, known, split.dataset.n_users, split.dataset.n_items)
    own = [np.mean([value for _, value in given[int(corpus.users[event])]]) for event in drawn]
    for name, said in (
        ("training mean", np.full(len(drawn), known.mean())),
        ("user's mean", np.array(own)),
        ("biases", np.clip(biases(corpus.users[drawn], corpus.items[drawn]), 1, 5)),
    ):
        out[name] = {"expected": star_intervals(said, stars)}
    before, after = (out[n]["expected"]["rmse"]["mean"] for n in ("zero-shot", "few-shot"))
    out["gain"] = 1 - after / before if before else 0.0
    return out


def texts(
    language: LanguageModel, split: Split, *, domain: str, cases: int, seed: int = 0
) -> dict[str, Any]:
    """Explain ratings without and with a word of what to write about, and sum reviews up.

    References are what the user wrote: the sentence of the review that says something of a
    feature, and the review's title where it is more than the number of stars. A text that ends at
    the token limit is cut at its last full sentence and counted; an answer of no use is an empty
    text.

    Returns:
        Rows ``explanation``, ``explanation, feature told`` and ``summary``: figures of
        :func:`onoma.evaluation.texts.text_figures`, ``feature`` (share of explanations that hold
        the word), the same of ``a training text of the item``, ``answers`` (counts), and
        ``samples``: what each text was about and what was said, for people to judge.
    """
    corpus, train = Corpus.of(split, "test", length=1), Corpus.of(split, "train", length=1)
    rng = np.random.default_rng(seed)

    def pick(column: Sequence[str], more: Sequence[str]) -> list[int]:
        able = [at for at in range(len(corpus)) if column[at] and more[at]]
        return sorted(int(at) for at in rng.permutation(able)[:cases])

    explained = pick(corpus.sentences, corpus.features)
    # A shop's own headline says nothing of the review.
    told = ["" if _STARRED.fullmatch(title.strip()) else title for title in corpus.headlines]
    summed = pick(told, corpus.reviews)
    titles = [line(title) for title in corpus.titles]

    def about(event: int) -> dict[str, str]:
        return {"item": titles[corpus.items[event]], "rating": f"{corpus.stars[event]:g}"}

    tasks: list[tuple[str, str, list[int], list[str], Callable[[int], dict[str, str]]]] = [
        ("explanation", "explain", explained, corpus.sentences, about),
        ("explanation, feature told", "explain-about", explained, corpus.sentences,
         lambda event: {**about(event), "feature": corpus.features[event]}),
        ("summary", "summarise", summed, corpus.headlines,
         lambda event: {"item": titles[corpus.items[event]],
                        "review": line(corpus.reviews[event], _REVIEW)}),
    ]  # fmt: skip
    out: dict[str, Any] = {"samples": []}
    for name, prompt, events, column, values in tasks:
        template = Template.load(prompt)
        said, counted = _written(
            language, [list(template.messages(domain, **values(event))) for event in events]
        )
        written = [column[event] for event in events]
        copied = _copied(events, corpus, train, name == "summary")
        out[name] = {
            "cases": len(events),
            "answers": counted,
            **text_figures(said, written),
            "a training text of the item": text_figures(copied, written),
        }
        if name != "summary":
            words = [corpus.features[event] for event in events]
            out[name]["feature"] = coverage(said, words)
        out["samples"] += [
            {
                "task": "summary" if name == "summary" else "explanation",
                "case": event,
                "source": "the model" if name != tasks[1][0] else "the model, feature told",
                "item": titles[corpus.items[event]],
                "rating": f"{corpus.stars[event]:g}",
                "about": line(corpus.reviews[event], _REVIEW) if name == "summary" else "",
                "text": text,
            }
            for event, text in zip(events, said, strict=True)
        ]
        if name != tasks[1][0]:
            last = out["samples"][-len(events) :] if events else []
            for source, others in (("the user", written), ("a training text", copied)):
                out["samples"] += [
                    {**sample, "source": source, "text": line(text, _REVIEW)}
                    for sample, text in zip(last, others, strict=True)
                ]
    return out


def _given(split: Split) -> dict[int, list[tuple[int, float]]]:
    """What each user rated before the test targets, oldest first: training, then validation."""
    rows, log = log_rows(split), split.dataset.interactions
    if "rating" not in log.columns:
        return {}
    stars = log["rating"].to_numpy()
    valid = split.valid
    users = np.concatenate([split.train.rows(), valid.users[valid.targets.rows()]])
    items = np.concatenate([split.train.values, valid.targets.values])
    values = stars[np.concatenate([rows.train, rows.valid])]
    out: dict[int, list[tuple[int, float]]] = {}
    for user, item, value in zip(users.tolist(), items.tolist(), values.tolist(), strict=True):
        if value is not None and np.isfinite(value):
            out.setdefault(user, []).append((item, value))
    return out


def _weighed(
    language: LanguageModel, asked: Sequence[list[Message]]
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """float64[n, 5], the shares of the digits, NaN where no answer came; and why none came."""
    out = np.full((len(asked), len(STARS)), np.nan)
    bad: dict[str, int] = {}
    found = language.each(lambda messages: weighed(language, messages, STARS), asked)
    for place, shares in enumerate(found):
        if isinstance(shares, BadAnswer):
            bad[shares.kind] = bad.get(shares.kind, 0) + 1
        else:
            out[place] = shares
    return out, bad


def _written(
    language: LanguageModel, asked: Sequence[list[Message]]
) -> tuple[list[str], dict[str, int]]:
    out: list[str] = []
    counted: dict[str, int] = {}
    found = language.each(
        lambda messages: language.complete(messages, decoding=_ROOM).text, asked
    )  # fmt: skip
    for answer in found:
        if isinstance(answer, BadAnswer):
            text = sentences(answer.text) if answer.kind == "cut" else ""
            kind = f"repaired: {answer.kind}" if text else f"rejected: {answer.kind}"
            counted[kind] = counted.get(kind, 0) + 1
            out.append(text)
        else:
            out.append(line(answer, _REVIEW))
    return out, counted


def sentences(text: str) -> str:
    """A text up to the end of its last full sentence; empty where none ends."""
    plain = line(text, 10 * _REVIEW)
    end = max((plain.rfind(mark) for mark in (".", "!", "?")), default=-1)
    return plain[: end + 1]


def _copied(events: Sequence[int], corpus: Corpus, train: Corpus, summary: bool) -> list[str]:
    """A text that another user wrote of the same item in training, as a language model is not."""
    column = train.headlines if summary else train.sentences
    by_item: dict[int, str] = {}
    for item, text in zip(train.items.tolist(), column, strict=True):
        if text and item not in by_item:
            by_item[item] = text
    return [by_item.get(int(corpus.items[event]), "") for event in events]
