"""``onoma study annotation``: a labelling prompt tuned step by step, each for what it is worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.evaluation.cost import Till
from onoma.evaluation.report_page import Dot, dot_chart, number, page, section, table
from onoma.language import LanguageModel
from onoma.recommenders.language.base import ModelSpec, language_model
from onoma.study.annotation_steps import (
    Balanced,
    Examples,
    Job,
    Prompt,
    Scores,
    Step,
    Structured,
    weighted_f1,
)
from onoma.study.annotation_tasks import Task, task

SURE = 0.95  # share of the validation draws in which a prompt must be better to be adopted
_DRAWS = 1_000
WORSE, BETTER = 0.01, 0.03  # of the acceptance line


def annotation(
    tasks: Sequence[str],
    out: str | Path,
    *,
    model: ModelSpec = "smollm2",
    pool: int = 80,
    dev: int = 60,
    test: int = 80,
    seed: int = 0,
    steps: Sequence[Step] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Tune the prompt of each task on validation texts and report it on texts that decided nothing.

    Examples come from a pool of their own. A proposal is adopted where its weighted F1 is higher in
    at least 95 of 100 paired draws of the validation texts, so that noise seldom is.

    Args:
        tasks: as of :func:`onoma.study.annotation_tasks.task`.
        out: ``annotation.json`` and ``annotation.html`` go here.
        model: who labels.
        pool: texts for examples, all labels alike.
        dev: texts that decide.
        test: texts that are reported.
        seed: of the texts, the draws and the predictor.
        steps: what is tried, in order; default :class:`Balanced`, :class:`Structured`,
            :class:`Examples`, :class:`Scores`.
        tell: called with a line after each proposal.

    Returns:
        ``model``, ``sizes``, ``tasks`` (of each ``name``, ``labels``, ``steps``: a proposal each
        with ``step``, ``prompt``, ``f1`` on validation, ``surely`` (share of draws in which it is
        better), ``adopted``, ``calls``, ``tokens``, ``money``; ``initial`` and ``tuned`` with
        ``prompt``, ``f1`` on test and ``unanswered``; ``gain`` with its interval) and
        ``acceptance``.

    Raises:
        OnomaError: no tasks, or too few texts.
    """
    if not tasks:
        raise OnomaError("no tasks", where="study annotation", fix="Give --data polarity:DATA")
    if steps is None:
        steps = (Balanced(), Structured(), Examples(), Scores(seed=seed))
    language = language_model(model)
    # What cannot be a task stops before anything is asked.
    opened = [task(spec, pool, dev, test, seed) for spec in tasks]
    found = [tuned(about, language, steps, seed, tell) for about in opened]
    result = {
        "model": language.identity,
        "sizes": {"pool": pool, "dev": dev, "test": test, "seed": seed},
        "adopted": f"weighted F1 higher in {SURE:.0%} of {_DRAWS:,} paired validation draws",
        "tasks": found,
        "acceptance": acceptance(found),
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", out / "annotation.json")
    write_text(_page(result), out / "annotation.html")
    return result


def tuned(
    about: Task,
    language: LanguageModel,
    steps: Sequence[Step],
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """One task of :func:`annotation`."""
    job = Job(about, language)
    first = adopted = Prompt()
    rows = [_tried(job, "initial", first, first, seed)]
    for step in steps:
        while True:
            for proposal in step.proposals(job, adopted):
                row = _tried(job, step.name, proposal, adopted, seed)
                rows.append(row)
                tell(f"{about.name}: {proposal.told()}: {row['f1']:.3f}"
                     f"{', adopted' if row['adopted'] else ''}")  # fmt: skip
                if row["adopted"]:
                    adopted = proposal
                    break
            else:
                break
    before, after = (job.labels(prompt, about.test) for prompt in (first, adopted))
    truth = about.truth[about.test]
    low, high = np.quantile(_gains(truth, before, after, len(about.labels), seed), [0.025, 0.975])
    sides: dict[str, dict[str, Any]] = {
        name: {
            "prompt": prompt.told(),
            "f1": weighted_f1(truth, said, len(about.labels)),
            "unanswered": int((said < 0).sum()),
        }
        for name, prompt, said in (("initial", first, before), ("tuned", adopted, after))
    }
    gain = {"mean": sides["tuned"]["f1"] - sides["initial"]["f1"], "low": float(low),
            "high": float(high)}  # fmt: skip
    tell(f"{about.name}: test {sides['initial']['f1']:.3f} to {sides['tuned']['f1']:.3f}")
    return {"name": about.name, "labels": list(about.labels), "steps": rows, **sides, "gain": gain}


def _tried(job: Job, step: str, proposal: Prompt, adopted: Prompt, seed: int) -> dict[str, Any]:
    """A proposal on the validation texts, beside the prompt adopted so far."""
    rows = job.task.dev
    with Till([job.language]) as till:
        said = job.labels(proposal, rows)
    used, money = till.used(), till.money()
    truth, labels = job.task.truth[rows], len(job.task.labels)
    gains = _gains(truth, job.labels(adopted, rows), said, labels, seed)
    surely = float((gains > 0).mean())
    return {
        "step": step,
        "prompt": proposal.told(),
        "f1": weighted_f1(truth, said, labels),
        "surely": surely,
        "adopted": proposal != adopted and surely >= SURE,
        "unanswered": int((said < 0).sum()),
        "calls": used.calls,
        "tokens": used.prompt + used.completion,
        "money": money,
    }


def _gains(
    truth: NDArray[np.int64],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    labels: int,
    seed: int,
) -> NDArray[np.float64]:
    """float64[draws], differences of weighted F1 over the same texts drawn with replacement."""
    draw = np.random.default_rng(seed)
    out = np.empty(_DRAWS)
    for place in range(_DRAWS):
        rows = draw.integers(len(truth), size=len(truth))
        out[place] = weighted_f1(truth[rows], after[rows], labels) - weighted_f1(
            truth[rows], before[rows], labels
        )
    return out


def acceptance(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What S078 asks, beside what was measured."""
    gains = [one["gain"]["mean"] for one in tasks]
    return [
        {
            "system": "S078",
            "asked": f"on each of at least 3 tasks, tuned at most {WORSE} below initial on test",
            "measured": ", ".join(f"{gain:+.3f}" for gain in gains),
            "holds": len(tasks) >= 3 and min(gains) >= -WORSE,
        },
        {
            "system": "S078",
            "asked": f"at least {BETTER:+} on average",
            "measured": f"{np.mean(gains):+.3f}",
            "holds": len(tasks) >= 3 and float(np.mean(gains)) >= BETTER,
        },
    ]


def _page(result: dict[str, Any]) -> str:
    parts = []
    dots = [
        Dot(one["name"], one["gain"]["mean"], one["gain"]["low"], one["gain"]["high"], True)
        for one in result["tasks"]
    ]
    asked = [
        [row["asked"], row["measured"], "yes" if row["holds"] else "no"]
        for row in result["acceptance"]
    ]
    head = ["prompt", "step", "validation F1", "better in", "adopted", "calls", "tokens"]
    for one in result["tasks"]:
        lines = [
            [row["prompt"], row["step"], number(row["f1"]), f"{row['surely']:.0%}",
             "yes" if row["adopted"] else "no", number(row["calls"]), number(row["tokens"])]
            for row in one["steps"]
        ]  # fmt: skip
        said = (
            f"On test {number(one['initial']['f1'])} ({one['initial']['prompt']}) and "
            f"{number(one['tuned']['f1'])} ({one['tuned']['prompt']}). "
            f"Labels: {', '.join(one['labels'])}."
        )
        parts.append(section(one["name"], table(head, lines), note=said))
    sizes = result["sizes"]
    return page(
        "Prompts tuned for annotation",
        f"{result['model']}; {sizes['pool']} texts for examples, {sizes['dev']} that decide, "
        f"{sizes['test']} that are reported; adopted where {result['adopted']}",
        [
            section("Weighted F1 gained on test", dot_chart("tuned - initial", dots, zero=True),
                    table(["", "measured", "holds"], asked)),
            *parts,
        ],
    )  # fmt: skip
