"""What a language model's answers took, and what was gained by it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases
from onoma.evaluation.ties import averaged
from onoma.language import LanguageModel, Usage
from onoma.language.taped import Taped


class Till:
    """Counts what models are used for while it is open.

    An answer from a tape counts as when it was first given, and once however often it is given.

    Args:
        models: each once.
    """

    def __init__(self, models: Sequence[LanguageModel]) -> None:
        self._models = list(models)
        self._open = ExitStack()
        self._tallies: dict[int, dict[str, Usage]] = {}
        self._before: dict[int, Usage] = {}
        self._used: list[Usage] = []

    def __enter__(self) -> Till:
        for place, model in enumerate(self._models):
            if isinstance(model, Taped):
                self._tallies[place] = self._open.enter_context(model.tally())
            else:
                self._before[place] = model.meter.total
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
        self._used = [
            sum(self._tallies[place].values(), Usage())
            if place in self._tallies
            else _minus(model.meter.total, self._before[place])
            for place, model in enumerate(self._models)
        ]

    def used(self) -> Usage:
        """Of all models, once it is closed."""
        return sum(self._used, Usage())

    def money(self) -> float:
        """What that cost by the models' prices."""
        return sum(
            model.meter.cost(used) for model, used in zip(self._models, self._used, strict=True)
        )


def cost(
    till: Till,
    figures: dict[str, float],
    cases: Cases,
    candidates: NDArray[np.int32] | None,
    ks: Sequence[int],
) -> dict[str, Any]:
    """Calls and tokens a record, and what a thousand tokens gain over no answer at all.

    Args:
        till: open while the records were asked, and no longer.
        figures: means over the records, by metric key.
        cases: the records.
        candidates: int32[n, c], their short lists; without them nothing is said of chance.
        ks: the cuts of ``figures``.

    Returns:
        ``records``, ``calls``, ``prompt_tokens``, ``reused_tokens`` (of these, read before),
        ``completion_tokens``, each a record; ``money`` of all; with short lists ``random`` (the
        mean of all orders of the candidates) and ``gain`` (``(figure - random) / 1,000 tokens``
        of a record) by metric key.
    """
    used, n = till.used(), len(cases)
    tokens = (used.prompt + used.completion) / n
    out: dict[str, Any] = {
        "records": n,
        "calls": used.calls / n,
        "prompt_tokens": used.prompt / n,
        "reused_tokens": used.reused / n,
        "completion_tokens": used.completion / n,
        "money": till.money(),
    }
    if candidates is not None:
        chance = random_figures(cases, candidates, ks)
        out["random"] = chance
        if tokens:
            out["gain"] = {key: 1000 * (figures[key] - chance[key]) / tokens for key in chance}
    return out


def random_figures(
    cases: Cases, candidates: NDArray[np.int32], ks: Sequence[int]
) -> dict[str, float]:
    """Mean NDCG, MRR and recall of short lists in every possible order."""
    names = ("ndcg", "mrr", "recall")
    order = np.argsort(candidates < 0, axis=1, kind="stable")
    items = np.take_along_axis(candidates, order, axis=1)
    flat = np.where(items >= 0, 0.0, -np.inf)
    found = averaged(items, flat, cases.targets, ks)
    return {k: float(v.mean()) for k, v in found.items() if k.partition("@")[0] in names}


def _minus(now: Usage, before: Usage) -> Usage:
    return Usage(
        prompt=now.prompt - before.prompt,
        reused=now.reused - before.reused,
        completion=now.completion - before.completion,
        calls=now.calls - before.calls,
        retries=now.retries - before.retries,
        replayed=now.replayed - before.replayed,
        seconds=now.seconds - before.seconds,
    )
