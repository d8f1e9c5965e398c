"""Logistic regression on the texts of what was liked, what was not, and the item in question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma import encoding
from onoma.dataset import Cases, Dataset, Split
from onoma.errors import OnomaError
from onoma.recommenders.base import Ranking, Recommender, Requests, top_k
from onoma.recommenders.ranking.clicks import auc
from onoma.recommenders.storage import read_model, save_model
from onoma.recommenders.tuned.questions import drawn, put, questions


class LikedTexts(Recommender):
    """A linear model of item texts, trained on the questions that a language model is tuned on.

    What it reads of a question: the mean text vector of the likes, that of the dislikes, the
    target's, and the target's products with both means.

    Args:
        encoder: of the texts; anything ``encoding.build`` takes.
        shots: training questions, drawn as :class:`onoma.recommenders.tuned.tallrec.TALLRec`
            draws them for the same seed; None takes all.
        strength: inverse of the L2 penalty; of several the one with the best AUC on validation.
        seed: of the draw.

    Raises:
        ValueError: a strength that is not above zero, shots below zero.
    """

    name = "liked-texts"
    takes = frozenset({"seed"})
    reads = frozenset({"history", "candidates", "liked"})

    def __init__(
        self,
        encoder: Any = "sentence",
        shots: int | None = 64,
        strength: Sequence[float] = (0.01, 0.1, 1.0, 10.0),
        seed: int = 0,
    ) -> None:
        if not strength or min(strength) <= 0:
            raise ValueError("strength must be above 0")
        if shots is not None and shots < 0:
            raise ValueError("shots must not be negative")
        self.encoder, self.shots, self.seed = encoder, shots, seed
        self.strength = tuple(strength)
        self.training: dict[str, Any] = {}
        self._content: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._weights: NDArray[np.float64] = np.zeros(0)

    def fit(self, split: Split) -> Self:
        """Fit the weights; validation picks the penalty.

        Raises:
            OnomaError: scikit-learn is not installed, or the drawn answers are all alike.
        """
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise OnomaError(
                "logistic regression needs scikit-learn", fix="pip install 'onoma[llm]'"
            ) from error
        self._content = encoding.cached(encoding.build(self.encoder), split)
        asked, valid = questions(split)
        asked = drawn(asked, self.shots, self.seed)
        assert asked.labels is not None and valid.labels is not None
        if asked.labels.all() or not asked.labels.any():
            raise OnomaError(
                f"all {len(asked)} training answers are alike",
                where=split.dataset.name,
                fix="Raise recommender.shots",
            )
        known, seen = self._features(asked), self._features(valid)
        best = -1.0
        for strength in self.strength:
            fitted = LogisticRegression(C=strength, max_iter=1000).fit(known, asked.labels)
            weights = np.append(fitted.coef_[0], fitted.intercept_)
            figure = auc(seen @ weights[:-1], valid.labels)
            if figure > best:
                best, self._weights = figure, weights
                self.training = {"asked": len(asked), "strength": strength, "valid_auc": figure}
        return self

    def _features(self, cases: Cases) -> NDArray[np.float64]:
        """float64[n, 3 D + 2] of cases with one target each."""
        flags = np.ones(len(cases.history.values)) if cases.liked is None else cases.liked.values
        rows = cases.history.rows()
        width = self._content.shape[1]
        parts = []
        for wanted in (1, 0):
            at = np.flatnonzero(flags == wanted)
            total = np.zeros((len(cases), width))
            np.add.at(total, rows[at], self._content[cases.history.values[at]])
            count = np.bincount(rows[at], minlength=len(cases))[:, None]
            parts.append(total / np.maximum(count, 1))
        target = self._content[cases.targets.values].astype(np.float64)
        alike = [(part * target).sum(1, keepdims=True) for part in parts]
        return np.concatenate([*parts, target, *alike], axis=1)

    def _judged(self, requests: Requests, items: NDArray[np.int32]) -> Tensor:
        features = self._features(put(requests, items))
        scores = features @ self._weights[:-1] + self._weights[-1]
        return torch.from_numpy(scores).float().view(items.shape)

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], logits of a like."""
        every = np.arange(len(self._content), dtype=np.int32)
        out = torch.empty((len(requests), len(every)))
        for row in range(len(requests)):  # the features of all pairs at once would not fit
            out[row] = self._judged(requests.slice(row, row + 1), every[None])[0]
        return out

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if requests.candidates is None:
            return super()._recommend(requests, k, mode)
        items = requests.candidates
        scores = self._judged(requests, np.maximum(items, 0))
        codes = torch.from_numpy(items.astype(np.int64))
        return top_k(scores, k, forbidden=requests.forbidden(), items=codes)

    def save(self, folder: str | Path) -> None:
        """Write the weights and the text vectors."""
        settings = {
            "encoder": self.encoder, "shots": self.shots, "strength": self.strength,
            "seed": self.seed,
        }  # fmt: skip
        arrays = {"weights": self._weights, "content": self._content}
        save_model(folder, self.name, settings, arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = read_model(folder, cls.name)
        if len(arrays["content"]) != dataset.n_items:
            raise OnomaError(
                f"fitted on {len(arrays['content'])} items, the catalogue has {dataset.n_items}",
                where=str(folder),
                fix="Use the data the model was fitted on",
            )
        model = cls(**settings)
        model._weights, model._content = arrays["weights"], arrays["content"]
        return model
