"""Steps that tune a prompt: each proposes, the validation texts decide.

After Zhao et al., "APT-Pipe: A Prompt-Tuning Tool for Social Data Annotation using ChatGPT" (WWW
2024). Another step is one more class with :meth:`Step.proposals`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.language import BadAnswer, LanguageModel, Message
from onoma.language.templates import Template
from onoma.recommenders.language.options import weighed
from onoma.study.annotation_scores import SCORES, features, sklearn
from onoma.study.annotation_tasks import Task


@dataclass(frozen=True)
class Prompt:
    """How a text is asked about.

    Attributes:
        structured: as a JSON object; in plain words otherwise.
        shots: labelled examples, the nearest of the pool.
        scores: names of :data:`onoma.study.annotation_scores.SCORES` that are told.
        balanced: the likelihoods of the labels are divided by what they are on average over the
            pool, whose labels are not read.
    """

    structured: bool = False
    shots: int = 0
    scores: tuple[str, ...] = ()
    balanced: bool = False

    def told(self) -> str:
        """In words."""
        parts = ["structured" if self.structured else "plain"]
        parts += [f"{self.shots} examples"] if self.shots else []
        return ", ".join([*parts, *self.scores, *(["balanced"] if self.balanced else [])])


@dataclass
class Job:
    """A task and who labels it; every answer is kept.

    Attributes:
        task: the texts.
        language: the model.
    """

    task: Task
    language: LanguageModel
    _said: dict[tuple[Prompt, int], NDArray[np.float64] | None] = field(default_factory=dict)
    _tables: dict[str, list[Any]] = field(default_factory=dict)

    def labels(self, prompt: Prompt, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[r], the likeliest label of each text; -1 for an answer of no use."""
        size = len(self.task.labels)
        usual = np.ones(size)
        if prompt.balanced:
            known = [share for share in self._shares(prompt, self.task.pool) if share is not None]
            # A label that is never likely is no likelier for being rare.
            usual = np.maximum(np.mean(known, axis=0), 1e-3 / size) if known else usual
        found = self._shares(prompt, rows)
        return np.array(
            [-1 if share is None else int((share / usual).argmax()) for share in found],
            dtype=np.int64,
        )

    def _shares(self, prompt: Prompt, rows: NDArray[np.int64]) -> list[NDArray[np.float64] | None]:
        """How likely each label of each text is; None for an answer of no use."""
        asked = replace(prompt, balanced=False)  # which asks nothing else
        lacking = [int(row) for row in rows if (asked, int(row)) not in self._said]
        found = self.language.each(
            lambda row: weighed(self.language, self.messages(asked, row), self.task.labels), lacking
        )
        for row, share in zip(lacking, found, strict=True):
            self._said[asked, row] = None if isinstance(share, BadAnswer) else share
        return [self._said[asked, int(row)] for row in rows]

    def f1(self, prompt: Prompt, rows: NDArray[np.int64]) -> float:
        """Weighted F1 of a prompt on some texts."""
        return weighted_f1(self.task.truth[rows], self.labels(prompt, rows), len(self.task.labels))

    def table(self, score: str) -> list[Any]:
        """A score of every text."""
        if score not in self._tables:
            self._tables[score] = SCORES[score](self.task)
        return self._tables[score]

    def messages(self, prompt: Prompt, row: int) -> list[Message]:
        """The question about a text."""
        task = self.task
        if not prompt.structured:
            return list(_template("annotate").messages(
                task=task.asked, labels=", ".join(task.labels), text=task.texts[row]
            ))  # fmt: skip
        examples = [
            {"text": task.texts[near], "label": task.labels[task.truth[near]]}
            # The nearest comes last, right before the text.
            for near in self._near[row, : prompt.shots][::-1]
        ]
        scores = {name: self.table(name)[row] for name in prompt.scores}
        return list(_template("annotate-structured").messages(
            task=_json(task.asked), labels=_json(list(task.labels)), examples=_json(examples),
            text=_json(task.texts[row]), scores=_json(scores),
        ))  # fmt: skip

    @cached_property
    def _near(self) -> NDArray[np.int64]:
        """int64[n, p], rows of the pool by likeness to each text; a text is never its own."""
        sklearn()
        from sklearn.feature_extraction.text import TfidfVectorizer

        pool = self.task.pool
        words = TfidfVectorizer(sublinear_tf=True)
        known = words.fit_transform([self.task.texts[row] for row in pool])
        alike = (words.transform(self.task.texts) @ known.T).toarray()
        alike[pool, np.arange(len(pool))] = -1.0
        return np.asarray(pool[np.argsort(-alike, axis=1, kind="stable")])


class Step(ABC):
    """A way to change a prompt."""

    name: ClassVar[str]

    @abstractmethod
    def proposals(self, job: Job, adopted: Prompt) -> Iterator[Prompt]:
        """Prompts to try in place of the one adopted so far, the most promising first.

        The first that validation prefers is adopted and the step is asked again, with it; a step
        that proposes nothing more is over. Only the pool and the validation texts may be read.
        """


class Balanced(Step):
    """Likelihoods in view of what a label's is on average, over texts whose labels are not read.

    A small model says one label to nearly everything; the paper's has no need of this. After Zhou
    et al., "Batch Calibration" (ICLR 2024).
    """

    name = "balanced"

    def proposals(self, job: Job, adopted: Prompt) -> Iterator[Prompt]:
        if not adopted.balanced:
            yield replace(adopted, balanced=True)


class Structured(Step):
    """A JSON object in place of plain words."""

    name = "structured"

    def proposals(self, job: Job, adopted: Prompt) -> Iterator[Prompt]:
        if not adopted.structured:
            yield replace(adopted, structured=True)


class Examples(Step):
    """The labelled texts of the pool that are most like the text."""

    name = "examples"

    def __init__(self, shots: int = 3) -> None:
        self.shots = shots

    def proposals(self, job: Job, adopted: Prompt) -> Iterator[Prompt]:
        if not adopted.shots:
            yield replace(adopted, structured=True, shots=self.shots)


class Scores(Step):
    """One text-analysis score after the other.

    They are tried in the order in which they tell, together with the label given so far, where
    that label is right: gradient-boosted trees, ten folds, weighted F1.
    """

    name = "scores"

    def __init__(self, scores: Sequence[str] = tuple(SCORES), seed: int = 0) -> None:
        self.scores, self.seed = tuple(scores), seed

    def proposals(self, job: Job, adopted: Prompt) -> Iterator[Prompt]:
        unused = [score for score in self.scores if score not in adopted.scores]
        worth = {score: self.worth(job, adopted, score) for score in unused}
        for score in sorted(unused, key=lambda name: -worth[name]):
            yield replace(adopted, structured=True, scores=(*adopted.scores, score))

    def worth(self, job: Job, adopted: Prompt, score: str) -> float:
        """Weighted F1 of the guess where the labels of the validation texts are right."""
        sklearn()
        from sklearn.ensemble import GradientBoostingClassifier
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.utils.class_weight import compute_sample_weight

        rows = job.task.dev
        said = job.labels(adopted, rows)
        right = (said == job.task.truth[rows]).astype(np.int64)
        folds = min(10, int(np.bincount(right, minlength=2).min()))
        if folds < 2:
            return 0.0  # always right, or never: there is nothing to tell
        given = np.eye(len(job.task.labels) + 1)[said]
        known = np.concatenate([given, features(job.table(score))[rows]], axis=1)
        trees = GradientBoostingClassifier(n_estimators=30, random_state=self.seed)
        guessed = cross_val_predict(
            trees, known, right, cv=StratifiedKFold(folds, shuffle=True, random_state=self.seed),
            params={"sample_weight": compute_sample_weight("balanced", right)},
        )  # fmt: skip
        return weighted_f1(right, guessed, 2)


def weighted_f1(truth: NDArray[np.integer], said: NDArray[np.integer], labels: int) -> float:
    """The mean of the labels' F1 by how often each is true; -1 is a wrong answer."""
    table = np.bincount(truth * (labels + 1) + said + 1, minlength=labels * (labels + 1))
    table = table.reshape(labels, labels + 1)
    true, given, hit = table.sum(axis=1), table[:, 1:].sum(axis=0), np.diag(table[:, 1:])
    f1 = 2 * hit / np.maximum(true + given, 1)
    return float((f1 * true).sum() / max(true.sum(), 1))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@cache
def _template(name: str) -> Template:
    return Template.load(name)
