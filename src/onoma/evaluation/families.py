"""What a text recommender's families of tasks are worth, in words it has and has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Split
from onoma.evaluation.texts import Biases, coverage, star_figures, text_figures
from onoma.recommenders.base import Requests
from onoma.recommenders.text.base import TextRecommender
from onoma.recommenders.text.corpus import Corpus
from onoma.recommenders.text.prompts import Prompt
from onoma.recommenders.text.tasks import Question

_SEED = 0
_KS = (5, 10)
_BEAM = 10  # texts of the beam whose validity is counted


def family_figures(model: TextRecommender, split: Split) -> dict[str, Any]:
    """Figures of every family that was trained, on test events that none was trained on.

    Args:
        model: fitted.
        split: its data.

    Returns:
        By family, then ``seen`` and ``unseen`` (prompts), then kind of question: ``events``, and
        what fits the kind. ``next``: recall and ndcg over the whole catalogue, seen items masked;
        ``choose``: the same among the items shown, the target being one; yes/no questions:
        accuracy; stars: RMSE and MAE of the expected and of the most probable stars; texts: BLEU,
        ROUGE, and how many hold the feature asked for. ``simple`` holds what needs no model.
    """
    train, test = model.corpus(split, "train"), model.corpus(split, "test")
    asker = model.asker(split, test)
    out: dict[str, Any] = {}
    for family, count in model.settings.families.items():
        if not count or not model.prompts_of(family):
            continue
        events = model.able(test, family)
        limit = model.settings.measured
        if limit and len(events) > limit:
            events = events[np.linspace(0, len(events) - 1, limit).astype(np.int64)]
        found: dict[str, Any] = {}
        for label, held in (("seen", False), ("unseen", True)):
            prompts = model.prompts_of(family, held=held)
            for kind in dict.fromkeys(p.kind for p in prompts):
                # The first prompt of a kind speaks for it, so one figure stands for one wording.
                prompt = next(p for p in prompts if p.kind == kind)
                rng = np.random.default_rng(_SEED)
                asked = [model.question(asker, [prompt], int(e), rng) for e in events]
                questions = [q for q in asked if q is not None]
                if questions:
                    figures = _figures(model, prompt, questions, test, train)
                    found.setdefault(label, {})[kind] = {"events": len(questions), **figures}
        simple = _simple(family, events, test, train, split)
        out[family] = {**found, **({"simple": simple} if simple else {})}
    return out


def name_figures(model: TextRecommender, split: Split, users: int = 200) -> dict[str, float]:
    """How many answers of a beam name no item, with the trie and without it.

    Returns:
        ``users`` asked, ``beam``, and ``invalid_without_trie`` and ``invalid_with_trie``, shares
        of the beam's texts.
    """
    cases = split.test
    if len(cases) > users:
        cases = cases.take(np.linspace(0, len(cases) - 1, users).astype(np.int64))
    requests = Requests.of(cases, mask_seen=False)
    free = model.unguarded(model.asked(requests), _BEAM)
    items = model.spelled(requests, _BEAM)[0][:, :_BEAM].numpy()
    return {
        "users": len(cases),
        "beam": _BEAM,
        "invalid_without_trie": float((free < 0).mean()),
        "invalid_with_trie": float((items >= split.dataset.n_items).mean()),
    }


def _figures(
    model: TextRecommender,
    prompt: Prompt,
    questions: list[Question],
    test: Corpus,
    train: Corpus,
) -> dict[str, float]:
    events = np.array([q.event for q in questions])
    if "candidates" in prompt.fields:
        return _chosen(model, questions, test.items[events])
    if prompt.answer == "{item}":
        return _next(model, questions, test)
    if "verdict" in prompt.fields:
        said = _said(model, questions, ["yes", "no"])
        truth = np.array([q.values["verdict"] == "yes" for q in questions])
        return {"accuracy": float(((said[:, 0] > said[:, 1]) == truth).mean()),
                "yes": float(truth.mean())}  # fmt: skip
    if prompt.answer == "{stars}":
        words = sorted({f"{x:g}" for x in train.stars[~np.isnan(train.stars)]})
        logp = _said(model, questions, words).astype(np.float64)
        share = np.exp(logp - logp.max(axis=1, keepdims=True))
        values = np.array([float(word) for word in words])
        expected = share @ values / share.sum(axis=1)
        given = test.stars[events]
        likely = star_figures(values[logp.argmax(axis=1)], given)
        return {
            **star_figures(expected, given),
            "rmse_most_probable": likely["rmse"],
            "mae_most_probable": likely["mae"],
        }
    said_texts = model.generate(questions)
    field = prompt.answer.strip("{}")
    written = [str(q.values[field]) for q in questions]
    figures = text_figures(said_texts, written)
    if field == "sentence":
        figures["coverage"] = coverage(said_texts, [test.features[e] for e in events])
    return figures


def _said(
    model: TextRecommender, questions: Sequence[Question], words: Sequence[str]
) -> NDArray[np.float32]:
    rows = model.answer_tokens(words)
    return model.likelihood(questions, np.broadcast_to(rows, (len(questions), *rows.shape)))


def _ranks(found: NDArray[np.integer], target: NDArray[np.integer]) -> dict[str, float]:
    hit = found == target[:, None]
    gains = hit / np.log2(np.arange(2, found.shape[1] + 2))
    out = {}
    for k in _KS:
        out[f"recall@{k}"] = float(hit[:, :k].any(axis=1).mean())
        out[f"ndcg@{k}"] = float(gains[:, :k].sum(axis=1).mean())
    return out


def _next(model: TextRecommender, questions: list[Question], test: Corpus) -> dict[str, float]:
    events = np.array([q.event for q in questions])
    requests = Requests(test.before.take(events), test.users[events])
    found = model.answer(requests, max(_KS), questions).items
    return _ranks(found, test.items[events])


def _chosen(
    model: TextRecommender, questions: list[Question], target: NDArray[np.integer]
) -> dict[str, float]:
    shown = [np.asarray(q.values["candidates"]) for q in questions]
    width = max(map(len, shown))
    table = np.array([np.pad(row, (0, width - len(row)), constant_values=-1) for row in shown])
    logp = model.likelihood(questions, model.spelling.tokens[np.maximum(table, 0)])
    logp = np.where(table < 0, -np.inf, logp)
    order = np.argsort(-logp, axis=1, kind="stable")
    figures = _ranks(np.take_along_axis(table, order, axis=1), target)
    return {
        "of": width,
        "recall@1": float((table[np.arange(len(table)), order[:, 0]] == target).mean()),
        **figures,
    }


def _simple(
    family: str, events: NDArray[np.int64], test: Corpus, train: Corpus, split: Split
) -> dict[str, Any]:
    """What the same events give without a language model."""
    if family == "rating":
        known = ~np.isnan(train.stars)
        biases = Biases(
            train.users[known], train.items[known], train.stars[known],
            split.dataset.n_users, split.dataset.n_items,
        )  # fmt: skip
        given = test.stars[events]
        return {
            "mean": star_figures(np.full(len(events), biases.mean), given),
            "biases": star_figures(biases(test.users[events], test.items[events]), given),
        }
    if family == "explanation":
        # The last sentence that training has of the same item; any other where it has none.
        last: dict[int, str] = {}
        for item, sentence in zip(train.items.tolist(), train.sentences, strict=True):
            if sentence:
                last[item] = sentence
        other = next(iter(last.values()), "")
        said = [last.get(int(test.items[e]), other) for e in events]
        figures = text_figures(said, [test.sentences[e] for e in events])
        return {
            "sentence of the same item": {
                **figures, "coverage": coverage(said, [test.features[e] for e in events])
            }
        }  # fmt: skip
    return {}
