"""What recommenders that ask a language model share: who is asked what, and what comes of it."""

from __future__ import annotations

import hashlib
import json
import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Split
from onoma.errors import OnomaError
from onoma.language import BadAnswer, LanguageModel
from onoma.recommenders.base import Ranking, Recommender, Requests, top_k
from onoma.recommenders.storage import read_model, save_model

ModelSpec = str | dict[str, Any]  # of onoma.language.opening.open_model
Model = ModelSpec | LanguageModel  # and one that is open already

_open: dict[str, LanguageModel] = {}
_opening = threading.Lock()


def language_model(spec: Model) -> LanguageModel:
    """The language model of a specification; equal ones share weights and answers.

    Raises:
        OnomaError: nothing answers to this specification.
    """
    from onoma.language.opening import open_model

    key = json.dumps(spec, sort_keys=True, default=str)
    with _opening:
        if key not in _open:
            _open[key] = open_model(spec)
        return _open[key]


@dataclass(frozen=True)
class Question:
    """One request, as a language model is asked it.

    Attributes:
        row: of the request.
        user: code, -1 for strangers.
        history: int32[l] item codes, oldest first, all of them.
        candidates: int32[c] distinct item codes, in an order that a seed draws for each question,
            so that a model's liking for a place in the list favours nobody; in the request's own
            order where it says so (``as_told``).
        query: what was asked in words, empty where nothing was.
    """

    row: int
    user: int
    history: NDArray[np.int32]
    candidates: NDArray[np.int32]
    query: str = ""


class Prompted(Recommender):
    """Puts candidates in order by asking a language model.

    Without candidates the most popular items that may be answered are asked about; everything that
    is not asked about follows them, by popularity. Where the model's answer is of no use, so do the
    candidates, which is counted. A subclass says what is asked and how an answer becomes scores
    (:meth:`judge`).

    Args:
        model: which language model, in the form of :func:`onoma.language.opening.open_model`.
        recent: items of the history that are told, the latest ones.
        shortlist: candidates that are asked about at most, the most popular first.
        seed: of the order in which candidates are told, and of examples.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"history", "candidates"})
    takes = frozenset({"seed"})
    batch: ClassVar[int] = 64

    def __init__(
        self,
        model: Model = "smollm2",
        recent: int = 5,
        shortlist: int = 20,
        seed: int = 0,
    ) -> None:
        if recent < 1 or shortlist < 2:
            raise ValueError("recent must be at least 1 and shortlist at least 2")
        self.model, self.recent, self.shortlist, self.seed = model, recent, shortlist, seed
        self.answers: Counter[str] = Counter()
        self._counts: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._dataset: Dataset | None = None

    @property
    def window(self) -> int | None:
        """The items that are told."""
        return self.recent

    @property
    def language(self) -> LanguageModel:
        """The model that is asked.

        Raises:
            OnomaError: it is not there.
        """
        return language_model(self.model)

    @property
    def dataset(self) -> Dataset:
        """The catalogue it was fitted on."""
        if self._dataset is None:
            raise OnomaError("not fitted", where=self.name)
        return self._dataset

    @property
    def counts(self) -> NDArray[np.float32]:
        """float32[n_items], training interactions of each item."""
        return self._counts

    @cached_property
    def _titles(self) -> list[str]:
        return self.dataset.titles(np.arange(self.dataset.n_items))

    def titles(self, items: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """What items are called in prompts: their titles, else their ids."""
        return [self._titles[int(item)] for item in items]

    def fit(self, split: Split) -> Self:
        """Keep the catalogue and count; subclasses that learn more extend this."""
        self._dataset = split.dataset
        self.__dict__.pop("_titles", None)
        self._counts = split.train_counts.astype(np.float32)
        return self

    @abstractmethod
    def judge(self, questions: Sequence[Question]) -> list[NDArray[np.float64] | BadAnswer]:
        """How good the candidates of each question are.

        Args:
            questions: each with at least one candidate.

        Returns:
            Of each question float64[c], higher is better (equal: not told apart; NaN: the answer
            left the candidate out, it follows the others), or why there is no answer.
        """

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: places counted from the end, the first is n_items."""
        return self._whole(requests)[0]

    def _whole(self, requests: Requests) -> tuple[Tensor, NDArray[np.bool_]]:
        """What :meth:`score` gives, and bool[n], where there was no bad answer."""
        n_items = self.dataset.n_items
        out = np.zeros((len(requests), n_items), dtype=np.float32)
        out[:] = -self._followers()
        judged, found, answered = self._judged(requests, None)
        for question, values in zip(judged, found, strict=True):
            out[question.row, question.candidates] = n_items - _places(values)
        return torch.from_numpy(out), answered

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        forbidden = requests.forbidden()
        if requests.candidates is None:
            whole, answered = self._whole(requests)
            return replace(top_k(whole, k, forbidden=forbidden), answered=answered)
        items = requests.candidates
        scores = np.where(items >= 0, -self._followers()[np.maximum(items, 0)], -np.inf)
        judged, found, answered = self._judged(requests, items)
        n_items = self.dataset.n_items
        for question, values in zip(judged, found, strict=True):
            place = dict(zip(question.candidates.tolist(), _places(values).tolist(), strict=True))
            for column, item in enumerate(items[question.row].tolist()):
                if item in place:
                    scores[question.row, column] = n_items - place[item]
        ranking = top_k(
            torch.from_numpy(scores.astype(np.float32)), k, forbidden=forbidden,
            items=torch.from_numpy(items.astype(np.int64)),
        )  # fmt: skip
        return replace(ranking, answered=answered)

    def _judged(
        self, requests: Requests, candidates: NDArray[np.int32] | None
    ) -> tuple[list[Question], list[NDArray[np.float64]], NDArray[np.bool_]]:
        """Ask; where there was no use in the answer, popularity speaks."""
        questions = self.questions(requests, candidates)
        answered = np.ones(len(requests), dtype=bool)
        if not questions:
            return [], [], answered
        found: list[NDArray[np.float64]] = []
        for question, answer in zip(questions, self.judge(questions), strict=True):
            self.answers["asked"] += 1
            if isinstance(answer, BadAnswer):
                self.answers[f"rejected: {answer.kind}"] += 1
                answer = np.full(len(question.candidates), np.nan)
            elif np.isnan(answer).all():
                self.answers["rejected: nothing found"] += 1
            answered[question.row] = not np.isnan(answer).all()
            left = np.isnan(answer)
            if left.any():
                # Behind everything the answer named, by popularity.
                floor = np.nanmin(answer) if not left.all() else 0.0
                rank = np.argsort(np.argsort(self._followers()[question.candidates]))
                answer = np.where(left, floor - 1.0 - rank, answer)
            found.append(answer)
        return questions, found, answered

    def questions(self, requests: Requests, candidates: NDArray[np.int32] | None) -> list[Question]:
        """Requests that leave something to be asked, with the candidates that are asked about."""
        order = np.argsort(self._followers(), kind="stable").astype(np.int32)
        forbidden = requests.forbidden()
        out = []
        for row in range(len(requests)):
            if candidates is None:
                # Enough of the most popular that what is forbidden can be left out.
                pool = order[: self.shortlist + len(forbidden[row])]
            else:
                pool = np.unique(candidates[row][candidates[row] >= 0])
                pool = pool[np.argsort(self._followers()[pool], kind="stable")]
            pool = pool[~np.isin(pool, forbidden[row])][: self.shortlist]
            if not len(pool):
                continue
            told = np.sort(pool)
            history = np.asarray(requests.history[row], dtype=np.int32)
            query = requests.query[row] if requests.query is not None else ""
            user = int(requests.users[row]) if requests.users is not None else -1
            # The draw depends on what is asked, never on its place in a batch.
            key = f"{self.seed} {history.tolist()} {np.sort(pool).tolist()} {query}"
            draw = np.random.default_rng(
                int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
            )
            told = told[draw.permutation(len(told))]
            if requests.as_told and candidates is not None:
                given = candidates[row][np.isin(candidates[row], pool)]
                told = given[np.sort(np.unique(given, return_index=True)[1])]
            out.append(Question(row, user, history, told, query))
        return out

    def _followers(self) -> NDArray[np.float32]:
        """float32[n_items], the place of each item by popularity, 0 for the most popular."""
        places = np.empty(len(self._counts), dtype=np.float32)
        places[np.argsort(-self._counts, kind="stable")] = np.arange(len(self._counts))
        return places

    def languages(self) -> list[LanguageModel]:
        """The models that are asked, for what they cost."""
        return [self.language]

    def language_report(self) -> dict[str, Any]:
        """What a metrics file records of the language model: who, how often, at what cost."""
        return {
            "model": self.language.identity,
            "answers": dict(sorted(self.answers.items())),
            "usage": self.language.meter.report(),
        }

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        return {
            "model": self.model,
            "recent": self.recent,
            "shortlist": self.shortlist,
            "seed": self.seed,
        }

    def arrays(self) -> Mapping[str, Any]:
        """What was learnt; ``counts`` has one row an item."""
        return {"counts": self._counts}

    def save(self, folder: str | Path) -> None:
        """Write settings and what was learnt; the language model stays where it is."""
        save_model(folder, self.name, self.settings(), self.arrays())

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            OnomaError: nothing of this recommender, or of another catalogue.
        """
        settings, arrays = read_model(folder, cls.name)
        known = len(arrays.get("counts", ()))
        if known != dataset.n_items:
            raise OnomaError(
                f"counts of {known} items, the catalogue has {dataset.n_items}",
                where=str(folder),
                fix="Use the data the model was fitted on",
            )
        model = cls(**settings)
        model._dataset = dataset
        model._restore(arrays)
        return model

    def _restore(self, arrays: Mapping[str, Any]) -> None:
        self._counts = np.asarray(arrays["counts"], dtype=np.float32)


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[c], places from 0; equal values share the mean of theirs."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values, method="average"), dtype=np.float64) - 1
