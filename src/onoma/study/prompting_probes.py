"""What ``onoma study prompting`` asks of the answers themselves: order, repetition, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onoma.dataset import Dataset, Split
from onoma.evaluation.agreement import lists_alike
from onoma.evaluation.metrics import metrics
from onoma.evaluation.significance import bootstrap_ci
from onoma.language import BadAnswer, Decoding, LanguageModel, Message
from onoma.language.grounding import Grounder
from onoma.language.templates import Template, bulleted, line
from onoma.recommenders.language.base import ModelSpec
from onoma.recommenders.language.likelihood import dated
from onoma.recommenders.language.options import weighed
from onoma.recommenders.language.titles import Titles
from onoma.study.prompting_lists import KEY, Arm, shuffled

_ROWS = 5  # numbered titles that the memory probe shows
_OPTIONS = 10  # titles that it lets choose from


def order(arms: Sequence[Arm], targets: Any, seed: int = 0) -> list[dict[str, Any]]:
    """Ask again with every history in another order.

    For arms without candidates: those are drawn in another order, too, when the history changes.

    Returns:
        Of each arm ``name``, how alike the first ten are, and NDCG@10 before and after.
    """
    out = []
    for arm in arms:
        before = arm.answer().items
        after = replace(arm, requests=shuffled(arm.requests, seed)).answer().items
        figures = [float(metrics(items, targets, (10,))[KEY].mean()) for items in (before, after)]
        out.append({"name": arm.name, **lists_alike(before, after), KEY: figures})
    return out


def unkept(model: ModelSpec) -> ModelSpec | None:
    """The same language model without the answers that are kept on disk; None of a cassette."""
    spec = {"model": model} if isinstance(model, str) else dict(model)
    if str(spec.get("model", "")).startswith("cassette:"):
        return None
    return {key: value for key, value in spec.items() if key != "record"} | {"cache": False}


def again(model: ModelSpec, arm: Arm, split: Split, cases: int = 5) -> dict[str, Any]:
    """Ask the free task twice at temperature 0, without the answers that are kept on disk.

    A cassette can only repeat itself; nothing is asked of one.

    Returns:
        ``cases``, and how alike the two lists of each are.
    """
    spec = unkept(model)
    if spec is None:
        return {"skipped": "a cassette repeats itself"}
    by = arm.model
    assert isinstance(by, Titles)
    few = arm.requests.slice(0, min(cases, len(arm.requests)))
    fresh = Titles(**{**by.settings(), "model": spec}).fit(split)
    first, second = (fresh.recommend(few, 10, mode="named").items for _ in range(2))
    return {"cases": len(few), **lists_alike(first, second)}


def memory(
    language: LanguageModel, dataset: Dataset, *, cases: int, seed: int = 0
) -> dict[str, Any]:
    """Does the model know the data set's files: the title behind a number, asked in two ways.

    Free: it writes a title, which is matched with the catalogue. Choice: it picks among the title
    and nine drawn ones; as titles differ in how readily they are said, the same choice is offered
    under another item's number, too, and only what the right number adds speaks for memory.

    Returns:
        ``cases``; ``recalled``: share of free answers that name the item; ``named``: that name
        any item of the catalogue; ``chosen`` and ``chosen_by_wrong_number``: shares; ``gain``:
        their paired difference with its interval; ``contaminated``: something was recalled, or
        the gain's interval is above 0; ``answers``: counts of those of no use.
    """
    rng = np.random.default_rng(seed)
    titles = [dated(title) for title in dataset.titles(np.arange(dataset.n_items))]
    template, ids = Template.load("recall-title"), dataset.item_ids
    drawn = rng.permutation(dataset.n_items)[:cases]
    questions: list[tuple[int, list[Message], list[Message], list[str]]] = []
    for item in drawn.tolist():
        others = rng.permutation(np.setdiff1d(np.arange(dataset.n_items), [item]))
        shown = bulleted(f"{ids[i]}: {titles[i]}" for i in others[:_ROWS].tolist())
        wrong = int(others[_ROWS])
        options = [line(titles[i]) for i in [item, *others[_ROWS + 1 :][: _OPTIONS - 1].tolist()]]
        if len(set(options)) < len(options):
            continue

        def ask(number: int, shown: str = shown) -> list[Message]:
            return list(
                template.messages(
                    data=line(dataset.name), rows=shown, asked=line(str(ids[number]))
                )  # fmt: skip
            )

        questions.append((item, ask(item), ask(wrong), options))
    bad: dict[str, int] = {}

    def good(found: Any) -> bool:
        if isinstance(found, BadAnswer):
            bad[found.kind] = bad.get(found.kind, 0) + 1
        return not isinstance(found, BadAnswer)

    written = language.each(
        lambda question: language.complete(question[1], decoding=Decoding(max_tokens=40)).text,
        questions,
    )
    grounder = Grounder(titles)
    told = [
        (grounder.lines(text) or [""])[0] if good(text) and isinstance(text, str) else ""
        for text in written
    ]
    found = [one.row for one in grounder.ground(told)]
    picks = []
    for asked in ([q[1] for q in questions], [q[2] for q in questions]):
        shares = language.each(
            lambda pair: weighed(language, *pair),
            [(one, question[3]) for one, question in zip(asked, questions, strict=True)],
        )
        # An answer of no use chose nothing.
        picks.append(
            [float(good(one) and not isinstance(one, BadAnswer) and one.argmax() == 0)
             for one in shares]
        )  # fmt: skip
    right = np.array([row == question[0] for row, question in zip(found, questions, strict=True)])
    difference = np.array(picks[0]) - np.array(picks[1])
    low, high = bootstrap_ci(difference, seed=seed)
    return {
        "cases": len(questions),
        "recalled": float(right.mean()),
        "named": float(np.mean([row >= 0 for row in found])),
        "chance": 1 / _OPTIONS,
        "chosen": float(np.mean(picks[0])),
        "chosen_by_wrong_number": float(np.mean(picks[1])),
        "gain": {"mean": float(difference.mean()), "low": float(low), "high": float(high)},
        "contaminated": bool(right.any() or low > 0),
        "answers": bad,
    }


def summary(found: Mapping[str, Any]) -> str:
    """The memory probe in one sentence."""
    verdict = "it knows the files" if found["contaminated"] else "no sign that it knows the files"
    return (
        f"{found['recalled']:.0%} of {found['cases']} titles recalled by number; "
        f"{found['chosen']:.0%} chosen of {round(1 / found['chance'])}, "
        f"{found['chosen_by_wrong_number']:.0%} under a wrong number: {verdict}"
    )
