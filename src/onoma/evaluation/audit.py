"""What a benchmark on this data can and cannot prove, told before anything is trained."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from onoma.dataset import Dataset, split
from onoma.evaluation import audit_checks as checks
from onoma.evaluation import floors as _floors
from onoma.evaluation.content import content_matrix

Level = Literal["leak", "caution", "fine"]
_R, _N = "recall@10", "ndcg@10"
_SHUFFLES = 5


@dataclass(frozen=True)
class Finding:
    """One sentence of the audit.

    Attributes:
        level: ``leak`` (a figure can be had without learning what is asked), ``caution``
            (changes what a figure means), ``fine``.
        check: which check it comes from.
        text: the sentence, with its numbers.
    """

    level: Level
    check: str
    text: str


@dataclass(frozen=True)
class Audit:
    """The whole audit.

    Attributes:
        data: name, hash and counts.
        figures: the numbers of each check, by name; None where the data lacks what it needs.
        floors: rows of training-free rankings.
        findings: what the numbers mean, worst first.
        advice: the protocol that follows.
        seconds: time taken.
    """

    data: dict[str, Any]
    figures: dict[str, Any]
    floors: list[dict[str, Any]]
    findings: list[Finding]
    advice: list[str]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The audit as plain JSON values."""
        return asdict(self)


def audit(dataset: Dataset, *, seed: int = 0) -> Audit:
    """Audit a data set under leave-one-out, the field's usual protocol.

    Args:
        dataset: the data.
        seed: of the tie shuffle and of samples.

    Raises:
        OnomaError: no user has three interactions, so that nothing can be held out.
    """
    start = time.monotonic()
    parts = split(dataset, "leave-one-out", ties="file", seed=seed)
    timed = dataset.interactions["timestamp"].null_count() < dataset.n_interactions
    shuffled = (
        [split(dataset, "leave-one-out", ties="shuffled", seed=seed + n) for n in range(_SHUFFLES)]
        if timed
        else []
    )
    figures: dict[str, Any] = {
        "identifiers": checks.identifiers(dataset, parts),
        "ties": checks.ties(dataset, parts, shuffled),
        "repeats": checks.repeats(parts),
        "cold": checks.cold(parts),
        "time": checks.time_order(dataset, parts),
        "branching": checks.branching(parts, seed),
        "smoothness": checks.smoothness(parts, content_matrix(dataset), seed),
        "memory": _floors.memory(parts),
        "lengths": checks.lengths(parts.train),
    }
    tied = bool(figures["ties"] and figures["ties"]["expected_change"] > 0)
    rows = _floors.floors(parts, shuffled if tied else ())
    rows.append(
        {
            "name": _floors.MAX_PLUS_ONE,
            "ties": "file",
            "mask_seen": True,
            "cases": len(parts.test),
            _R: figures["identifiers"]["first_appearance"][_R],
            _N: figures["identifiers"]["first_appearance"][_N],
        }
    )
    figures["resolution"] = _resolution(best(rows), len(parts.test))
    found = findings(figures, rows)
    return Audit(
        parts.describe(),
        figures,
        rows,
        found,
        advice(figures, rows),
        round(time.monotonic() - start, 2),
    )


def row(floors: list[dict[str, Any]], name: str, ties: str = "file") -> dict[str, Any] | None:
    """The masked row of one floor, or None."""
    for one in floors:
        if one["name"] == name and one["ties"] == ties and one["mask_seen"]:
            return one
    return None


def best(floors: list[dict[str, Any]]) -> dict[str, Any]:
    """The honest floor with the highest NDCG@10 on the data as it stands."""
    honest = [
        one
        for one in floors
        if one["ties"] == "file" and one["mask_seen"] and one["name"] != _floors.MAX_PLUS_ONE
    ]
    return max(honest, key=lambda one: float(one[_N]))


def _resolution(floor: dict[str, Any], cases: int) -> dict[str, float]:
    """Half the 95 % interval of the best floor: closer figures are not told apart unpaired."""
    half = 1.96 * float(np.sqrt(floor[_R] * (1 - floor[_R]) / cases))
    return {"cases": float(cases), "recall@10_half_width": half}


def findings(figures: dict[str, Any], floors: list[dict[str, Any]]) -> list[Finding]:
    """Sentences from numbers, leaks first."""
    out = [*_identity(figures["identifiers"]), *_order(figures["ties"], floors)]
    again, cold = figures["repeats"]["test"], figures["cold"]
    out.append(
        Finding(
            "caution" if again > 0.01 else "fine",
            "repeats",
            f"{again:.1%} of the test targets are already in the history; masking seen items "
            + ("makes them unreachable." if again > 0.01 else "costs nothing here."),
        )
    )
    out.append(
        Finding(
            "caution"
            if cold["test"] > 0.02 or cold["test"] > 1.5 * cold["valid"] + 1e-3
            else "fine",
            "cold",
            f"{cold['test']:.2%} of the test targets never occur in training, {cold['valid']:.2%} "
            f"of the validation targets; below five occurrences: {cold['test_below_5']:.1%} and "
            f"{cold['valid_below_5']:.1%}. A model of ids alone ends at "
            f"recall {1 - cold['test']:.4f}.",
        )
    )
    if figures["time"]:
        late = figures["time"]["training_after_test"]
        out.append(
            Finding(
                "caution" if late > 0.05 else "fine",
                "time",
                f"for the average test case, {late:.1%} of the training log happened after its "
                "target: leave-one-out looks into the future by that much.",
            )
        )
    out += _shortcuts(figures, floors)
    half = figures["resolution"]["recall@10_half_width"]
    out.append(
        Finding(
            "caution" if half > 0.01 else "fine",
            "resolution",
            f"{figures['resolution']['cases']:,.0f} test cases: a recall@10 near the best floor is "
            f"known to about ±{half:.4f}; smaller differences need a paired test.",
        )
    )
    rank = {"leak": 0, "caution": 1, "fine": 2}
    return sorted(out, key=lambda one: rank[one.level])


def _identity(ids: dict[str, Any]) -> list[Finding]:
    bar = max(5 * ids["chance"], 0.01)
    first, given, ours = (ids[key][_R] for key in ("first_appearance", "owner_order", "codes"))
    texts = [
        (
            first,
            "ids numbered by first appearance leak: the constant rule max+1 ... max+10 hits "
            f"{first:.2%} (chance {ids['chance']:.2%}) without learning anything",
            f"the constant rule max+1 ... max+10 hits {first:.2%} on ids by first appearance",
        ),
        (
            given,
            f"the owner's ids, sorted, leak the order: the same rule hits {given:.2%}",
            f"on the owner's ids, sorted, the rule hits {given:.2%}",
        ),
        (
            ours,
            f"even on Onoma's codes the rule hits {ours:.2%}: the log itself is ordered",
            f"on Onoma's codes, a seeded shuffle, the rule hits {ours:.2%}",
        ),
    ]
    return [
        Finding("leak" if hit > bar else "fine", "identifiers", f"{bad if hit > bar else good}.")
        for hit, bad, good in texts
    ]


def _order(ties: dict[str, Any] | None, floors: list[dict[str, Any]]) -> list[Finding]:
    if ties is None:
        return [
            Finding(
                "caution",
                "ties",
                "there are no timestamps: the order of the file is all the order there is, and "
                "nothing here can test it.",
            )
        ]
    moved = ties["expected_change"]
    if moved <= 0.01:
        return [
            Finding(
                "fine",
                "ties",
                f"shuffling equal timestamps changes {moved:.2%} of the test targets.",
            )
        ]
    level: Level = "caution"
    text = (
        f"shuffling equal timestamps changes {moved:.1%} of the test targets; "
        f"{ties['tied_at_the_end']:.1%} of the users have a tie at the end"
    )
    up = ties["ascending"]
    if up is not None and abs(up - 0.5) > 0.1:
        level = "leak"
        text += f", and {up:.1%} of tied neighbours stand in ascending order of their ids"
    before, after = row(floors, _floors.MARKOV), row(floors, _floors.MARKOV, "shuffled")
    if before and after:
        text += (
            f". Markov's recall@10 goes from {before[_R]:.4f} to {after[_R]:.4f} when "
            f"they are shuffled (mean of {_SHUFFLES} seeds)"
        )
    return [Finding(level, "ties", text + ".")]


def _shortcuts(figures: dict[str, Any], floors: list[dict[str, Any]]) -> list[Finding]:
    graph, memory, smooth = figures["branching"], figures["memory"], figures["smoothness"]
    near = graph["reach"][2]
    share, lift = near["targets"], figures["identifiers"]["chance"] / 10 * near["candidates"]
    out = [
        Finding(
            "caution" if share > 3 * lift and share > 0.2 else "fine",
            "branching",
            f"{graph['memorised']:.1%} of the test steps were seen in training, and {share:.1%} of "
            f"the targets lie within two steps of the last item, among {near['candidates']:,.0f} "
            f"items on average ({lift:.1%} of the catalogue).",
        )
    ]
    if memory["cases"] and memory["before_last"]:
        alone = memory["lags"][0][_R]
        out.append(
            Finding(
                "caution" if memory["gain"] < 0.1 else "fine",
                "memory",
                f"the last item alone gives recall@10 {alone:.4f}, the last three together "
                f"{memory['together'][-1][_R]:.4f} ({memory['gain']:+.0%}), the item before the "
                f"last in its place {memory['before_last'][_R]:.4f}"
                + (": long histories have little to prove here." if memory["gain"] < 0.1 else "."),
            )
        )
    if smooth:
        out.append(
            Finding(
                "caution" if smooth["test_auc"] > 0.65 else "fine",
                "smoothness",
                f"the target is more like the last item than a shuffled target in "
                f"{smooth['test_auc']:.0%} of the cases (50 % would be no relation): content "
                + ("alone goes far." if smooth["test_auc"] > 0.65 else "says little."),
            )
        )
    floor = best(floors)
    out.append(
        Finding(
            "caution",
            "floors",
            f'without any training, "{floor["name"]}" has recall@10 {floor[_R]:.4f} and NDCG@10 '
            f"{floor[_N]:.4f}: a model below has shown nothing.",
        )
    )
    return out


def advice(figures: dict[str, Any], floors: list[dict[str, Any]]) -> list[str]:
    """The protocol that the numbers ask for, one step a line."""
    ids, ties, again = figures["identifiers"], figures["ties"], figures["repeats"]["test"]
    cold, smooth = figures["cold"], figures["smoothness"]
    out = [
        "Rank the whole catalogue for every user; choose on validation, report test once; "
        "at least three seeds with intervals, and paired tests between models.",
        "Seen items: report masked and unmasked, repeats are common."
        if again > 0.01
        else f"Seen items: mask them and say so ({again:.2%} repeats).",
    ]
    if ids["first_appearance"][_R] > max(5 * ids["chance"], 0.01):
        out.append(
            "Ids: shuffle them with a seed before anything reads them (Onoma does); do not "
            "compare with figures on ids by first appearance."
        )
    if ties is None:
        out.append("Order: say where the order of the file comes from.")
    elif ties["expected_change"] > 0.01:
        out.append(
            "Ties: report the file's order for comparison with published figures and the "
            "seeded shuffle (ties: shuffled) beside it; record the data hash."
        )
    else:
        out.append("Ties: any rule will do; keep the file's order and record the data hash.")
    if cold["test"] > 0.005 or cold["test_below_5"] > 0.1:
        out.append(
            "Cold and tail targets: report the slices; validation is warmer than test, so "
            "judge a goal on test."
            if cold["test"] > cold["valid"]
            else "Cold and tail targets: report the slices."
        )
    if figures["time"] and figures["time"]["training_after_test"] > 0.05:
        out.append("Time: add a temporal split when the claim is about deployment.")
    rows = ["Markov"] + (["the graph walk"] if row(floors, _floors.WALK) else [])
    rows.append("a well-trained SASRec")
    out.append(f"Baselines: {', '.join(rows)}; report memorised and generalised steps apart.")
    if figures["memory"]["gain"] < 0.1:
        out.append(
            "Claims about long histories need other data: truncating to the last item is "
            "a required ablation here."
        )
    if smooth and smooth["test_auc"] > 0.65:
        out.append(
            "Claims about sequence modelling need an ablation against content similarity "
            "to the last item."
        )
    return out
