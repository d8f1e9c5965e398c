"""The tasks of ``onoma study prompting`` whose answers are lists of items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset import Cases, Split
from onoma.evaluation.beyond import beyond
from onoma.evaluation.candidates import short_lists
from onoma.evaluation.evaluate import Evaluation, measured
from onoma.evaluation.significance import compare, holm, textbook_p
from onoma.recommenders.base import Ranking, Recommender, Requests
from onoma.recommenders.cascade import Cascade
from onoma.recommenders.language.base import ModelSpec, Prompted
from onoma.recommenders.language.pick import Pick
from onoma.recommenders.language.titles import Titles
from onoma.recommenders.registry import recommender

KS = (10, 20, 50)
BASELINES = ("random", "popular", "itemknn", "userknn", "ease")
FEW = 3  # ratings that are known of a cold-start user
GIVEN = 20  # items of a list that is put in order
DIRECT = 100  # items of the direct task, the target among them
KEY = "ndcg@10"


@dataclass(frozen=True)
class Arm:
    """One system in one setting.

    Attributes:
        name: of the row.
        model: fitted.
        requests: what it is asked.
        mode: of the recommender.
    """

    name: str
    model: Recommender
    requests: Requests
    mode: str | None = None

    def answer(self) -> Ranking:
        """Fifty items a request."""
        return self.model.recommend(self.requests, KS[-1], mode=self.mode)


def baselines(split: Split, tell: Callable[[str], None]) -> dict[str, Recommender]:
    """The classic recommenders, settings chosen on validation."""
    out = {}
    for name in BASELINES:
        out[name] = recommender(name).create({}, seed=0, quiet=True).fit(split)
        tell(f"{name} fitted")
    return out


def settings(
    model: ModelSpec, split: Split, cases: Cases, classic: Mapping[str, Recommender], domain: str
) -> dict[str, list[Arm]]:
    """The rows of each setting, the classic recommenders first.

    S053: ``free`` (titles out of the model's own knowledge), ``given`` (the most popular items put
    in order, with and without the user's profile), ``neighbours`` (what similar users took put in
    order, likewise) and ``cold`` (all of it for users of whom three ratings are known; the rest of
    their history stays hidden and is not asked for again). S112: ``sequential`` (what comes next,
    without candidates) and ``direct`` (ten of a hundred candidates).
    """
    whole = Requests.of(cases)
    cold = replace(
        whole, history=cases.history.last(FEW), exclude=cases.history,
        times=None if cases.times is None else cases.times.last(FEW),
    )  # fmt: skip
    listed = replace(whole, candidates=short_lists(cases, split, DIRECT - 1))
    pick: dict[str, Any] = {"model": model, "domain": domain, "shortlist": GIVEN}
    plain = {**pick, "prompt": "order-candidates"}
    free = Titles(model, domain=domain).fit(split)
    following = Titles(model, domain=domain, prompt="next-titles").fit(split)
    direct = Pick(model, domain=domain, shortlist=DIRECT).fit(split)

    def behind(name: str, how: dict[str, Any]) -> Cascade:
        first = {"name": name}
        if name == "userknn":
            known = classic[name].training["chosen"]  # type: ignore[attr-defined]
            first |= {key: known[key] for key in ("neighbours", "shrink")}
        return Cascade([first, {"name": "pick-llm", **how}], keep=GIVEN).fit(split)

    def rows(requests: Requests, names: Sequence[str] = BASELINES) -> list[Arm]:
        return [Arm(name, classic[name], requests) for name in names]

    given = {name: (behind(name, pick), behind(name, plain)) for name in ("popular", "userknn")}

    def ordered(name: str, requests: Requests) -> list[Arm]:
        told, blind = given[name]
        return [
            Arm(f"{name}, then picked", told, requests),
            Arm(f"{name}, then picked without a profile", blind, requests),
        ]

    def titles(by: Titles, requests: Requests) -> list[Arm]:
        return [
            Arm("titles, as named", by, requests, "named"),
            Arm("titles, then popular", by, requests, "filled"),
        ]

    return {
        "free": [*rows(whole), *titles(free, whole)],
        "given": [*rows(whole, ("popular",)), *ordered("popular", whole)],
        "neighbours": [*rows(whole, ("userknn",)), *ordered("userknn", whole)],
        "cold": [
            *rows(cold), *titles(free, cold), *ordered("popular", cold)[:1],
            *ordered("userknn", cold)[:1],
        ],
        "sequential": [*rows(whole), *titles(following, whole)],
        "direct": [*rows(listed), Arm("picked", direct, listed)],
    }  # fmt: skip


def figures(arms: Sequence[Arm], split: Split, cases: Cases) -> list[dict[str, Any]]:
    """Every arm's figures on the same cases, and its tests against the most popular items.

    Returns:
        Of each ``name``, the summary of an evaluation, ``beyond`` at every cut, and but for the
        first arm that is most popular ``against``: difference, interval, p of the permutation, t
        and Wilcoxon tests, Holm's correction over the arms; ``answers`` where a language model
        was asked.
    """
    found: list[tuple[Arm, Evaluation, dict[str, int]]] = []
    for arm in arms:
        before = dict(_answers(arm.model))
        done = measured(arm.answer(), cases, split, ks=KS, mode=arm.mode)
        after = {key: count - before.get(key, 0) for key, count in _answers(arm.model).items()}
        found.append((arm, done, {key: count for key, count in after.items() if count}))
    base = next((one for arm, one, _ in found if arm.name == "popular"), found[0][1])
    out = []
    for arm, done, counted in found:
        row: dict[str, Any] = {"name": arm.name, **done.summary()}
        for told in ("formulas", "slices"):
            row.pop(told)
        row["beyond"] = {
            key: value
            for k in KS
            for key, value in beyond(
                done.ranking.items, split.train_counts, k=k, history=cases.history,
                targets=cases.targets,
            ).items()
        }  # fmt: skip
        if done is not base:
            paired = compare(base.metrics[KEY], done.metrics[KEY])
            difference = done.metrics[KEY] - base.metrics[KEY]
            row["against"] = {"metric": KEY, **paired.as_dict(), **textbook_p(difference)}
        if counted:
            row["answers"] = counted
        out.append(row)
    tested = [row["against"] for row in out if "against" in row]
    for against, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
        against["p_holm"] = p
    return out


def ordering(split: Split, classic: Mapping[str, Recommender]) -> dict[str, dict[str, float]]:
    """What S053 asks of the metrics: popularity and coverage of three baselines, all test users."""
    requests = Requests.of(split.test)
    out = {}
    for name in ("random", "ease", "popular"):
        items = classic[name].recommend(requests, 10).items
        found = beyond(items, split.train_counts, k=10)
        out[name] = {"arp@10": found["arp@10"], "coverage@10": found["coverage@10"]}
    return out


def shuffled(requests: Requests, seed: int = 0) -> Requests:
    """The same histories in an order drawn for each."""
    values: NDArray[np.integer] = requests.history.values.copy()
    offsets = requests.history.offsets
    for row in range(len(requests)):
        part = values[offsets[row] : offsets[row + 1]]
        values[offsets[row] : offsets[row + 1]] = np.random.default_rng([seed, row]).permutation(
            part
        )
    return replace(requests, history=type(requests.history)(offsets, values), times=None)


def _answers(model: Recommender) -> dict[str, int]:
    """What a recommender has counted of a language model's answers so far."""
    stages = model.stages if isinstance(model, Cascade) else [model]
    out: dict[str, int] = {}
    for stage in stages:
        if isinstance(stage, Prompted):
            out |= dict(stage.answers)
    return out
