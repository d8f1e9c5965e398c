"""The third contract: requests in, a ranking out, for every recommender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, validate_call
from torch import Tensor

from onoma.dataset import Cases, Dataset, Ragged, Split
from onoma.errors import OnomaError

TIES = "equal scores: lower item code first (codes are a seeded shuffle of the ids)"

# Neither 2.5 nor "2" is a whole number; of other classes instances are asked for.
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Requests:
    """A columnar batch of n questions; a recommender names the signals it reads.

    Attributes:
        history: n rows of item codes, oldest first; may be empty.
        users: int32[n] user codes, -1 for strangers; None when nobody is known.
        exclude: n rows of item codes that must not be answered.
        candidates: int32[n, c] item codes, -1 as padding: rank these only.
        query: n texts.
        context: n dictionaries of what else is known (time, scenario, dialogue).
        mask_seen: whether items of the history are left out of the answer.
        times: n rows of Unix seconds aligned with the history, -1 where unknown.
        liked: int8, n rows aligned with the history, 1 for what was liked; None: everything was.
        as_told: whether recommenders that tell the candidates to somebody do so in the order of
            their columns; else they draw an order, so that no place is favoured.

    Raises:
        ValueError: times or likes that are not aligned with the history.
    """

    history: Ragged
    users: NDArray[np.int32] | None = None
    exclude: Ragged | None = None
    candidates: NDArray[np.int32] | None = None
    query: Sequence[str] | None = None
    context: Sequence[dict[str, Any]] | None = None
    mask_seen: bool = True
    times: Ragged | None = None
    liked: Ragged | None = None
    as_told: bool = False

    def __post_init__(self) -> None:
        if self.liked is not None and not np.array_equal(self.liked.offsets, self.history.offsets):
            raise ValueError("likes and history have different lengths")
        if self.times is not None and not np.array_equal(self.times.offsets, self.history.offsets):
            raise ValueError("times and history have different lengths")

    def __len__(self) -> int:
        return len(self.history)

    @classmethod
    def of(cls, cases: Cases, *, mask_seen: bool = True) -> Requests:
        """The questions of evaluation cases."""
        return cls(
            cases.history, cases.users, query=cases.query, mask_seen=mask_seen, times=cases.times,
            liked=cases.liked,
        )  # fmt: skip

    @classmethod
    def histories(
        cls, dataset: Dataset, histories: Sequence[Sequence[str]], *, mask_seen: bool = True
    ) -> Requests:
        """Anonymous users by the owner's item ids; ids the catalogue lacks are skipped."""
        rows = [dataset.item_codes(history) for history in histories]
        return cls(Ragged.from_rows([row[row >= 0] for row in rows]), mask_seen=mask_seen)

    @classmethod
    def known(
        cls, dataset: Dataset, user: int, *, above: float | None = None, mask_seen: bool = True
    ) -> Requests:
        """One user of the data, with all that is known: items, times and, if asked, likes.

        Args:
            dataset: the data.
            user: a user code.
            above: ratings above it are likes, where the recommender was told likes.
            mask_seen: whether items of the history are left out of the answer.
        """
        past = dataset.past(user)
        history = Ragged.from_rows([past["item"].to_numpy().astype(np.int32)])
        liked = None
        if above is not None:
            liked = Ragged(history.offsets, (past["rating"] > above).to_numpy().astype(np.int8))
        return cls(
            history, np.array([user], dtype=np.int32), mask_seen=mask_seen, liked=liked,
            times=Ragged(history.offsets, past["timestamp"].to_numpy().astype(np.int64)),
        )  # fmt: skip

    def slice(self, start: int, stop: int) -> Requests:
        """Rows ``start`` to ``stop``."""
        return replace(
            self,
            history=self.history.slice(start, stop),
            users=None if self.users is None else self.users[start:stop],
            exclude=None if self.exclude is None else self.exclude.slice(start, stop),
            candidates=None if self.candidates is None else self.candidates[start:stop],
            query=None if self.query is None else self.query[start:stop],
            context=None if self.context is None else self.context[start:stop],
            times=None if self.times is None else self.times.slice(start, stop),
            liked=None if self.liked is None else self.liked.slice(start, stop),
        )

    def of_likes(self) -> Requests:
        """The same of people known by what they liked; what they did not is seen all the same."""
        if self.liked is None:
            return self
        kept, exclude = self.liked.values > 0, self.exclude
        if self.mask_seen:
            hidden = self.history.where(~kept)
            exclude = hidden if exclude is None else exclude.concat(hidden)
        return replace(
            self,
            history=self.history.where(kept),
            times=None if self.times is None else self.times.where(kept),
            exclude=exclude,
            liked=None,
        )

    def forbidden(self) -> Ragged:
        """N rows of item codes that no answer may hold."""
        seen = self.history if self.mask_seen else Ragged.empty(len(self))
        return seen if self.exclude is None else seen.concat(self.exclude)


@dataclass(frozen=True)
class Ranking:
    """The answers: best first, -1 and -inf where there were fewer than k.

    Attributes:
        items: int32[n, k] item codes.
        scores: float32[n, k].
        answered: bool[n], False where somebody was asked and the answer was of no use, so that
            something else stands here; None where that cannot be.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    answered: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def joined(cls, parts: Sequence[Ranking]) -> Ranking:
        """Rows of several rankings, one below the other."""
        told = [part.answered for part in parts if part.answered is not None]
        return cls(
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate(told) if len(told) == len(parts) else None,
        )

    def ids(self, dataset: Dataset) -> list[list[str]]:
        """The owner's ids, without padding."""
        names = dataset.item_ids
        return [[str(names[code]) for code in row if code >= 0] for row in self.items]


def top_k(
    scores: Tensor, k: int, *, forbidden: Ragged | None = None, items: Tensor | None = None
) -> Ranking:
    """The one place where items are masked, ties are broken and answers are cut.

    Args:
        scores: float[n, n_items], or float[n, c] when ``items`` names the columns; overwritten.
            A score of -inf (or NaN) is never answered.
        k: answers a row.
        forbidden: n rows of item codes to leave out.
        items: int[n, c] item codes of the columns, -1 for padding; an item named twice keeps its
            best score.

    Returns:
        Ranking with ``items`` int32[n, k]; equal scores put the lower item code first.
    """
    scores = scores.float()
    width = scores.shape[1]
    if items is not None:
        items = items.long()
        # Sorted by code, then a stable descending sort: ties and repeats are settled by code.
        order = torch.argsort(items, dim=1, stable=True)
        items, scores = items.gather(1, order), scores.gather(1, order)
        scores = scores.masked_fill(items < 0, -torch.inf)
    largest = torch.finfo(torch.float32).max
    scores = scores.nan_to_num_(nan=-torch.inf, posinf=largest, neginf=-torch.inf)
    if forbidden is not None:
        forbid(scores, forbidden, items)
    if items is not None:
        descending = torch.argsort(scores, dim=1, descending=True, stable=True)
        items, scores = items.gather(1, descending), scores.gather(1, descending)
        if width > 1:
            scores, items = _without_repeats(scores, items)
        found, values = items[:, :k], scores[:, :k]
    else:
        found, values = _first_k(scores, min(k, width))
    found = found.masked_fill(values == -torch.inf, -1)
    short = k - found.shape[1]
    if short > 0:
        found = torch.nn.functional.pad(found, (0, short), value=-1)
        values = torch.nn.functional.pad(values, (0, short), value=-torch.inf)
    return Ranking(found.numpy().astype(np.int32), values.numpy().astype(np.float32))


def forbid(scores: Tensor, forbidden: Ragged, items: Tensor | None = None) -> None:
    """Set the scores of forbidden items to -inf, in place; see :func:`top_k`."""
    if not len(forbidden.values):
        return
    rows = torch.from_numpy(forbidden.rows())
    codes = torch.from_numpy(np.asarray(forbidden.values, dtype=np.int64))
    if items is None:
        scores[rows, codes] = -torch.inf
        return
    base = int(max(int(items.max()), int(codes.max()))) + 2
    keys = torch.arange(len(scores))[:, None] * base + items
    scores[torch.isin(keys, rows * base + codes)] = -torch.inf


def _first_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Exact top k with the lower column first among equals."""
    # topk promises nothing about equals: rows where the k-th value goes on past k are redone.
    values, found = torch.topk(scores, min(k + 1, scores.shape[1]), dim=1)
    if values.shape[1] > k:
        torn = (values[:, k] == values[:, k - 1]) & (values[:, k] > -torch.inf)
        values, found = values[:, :k].contiguous(), found[:, :k].contiguous()
        if bool(torn.any()):
            again = torch.argsort(scores[torn], dim=1, descending=True, stable=True)[:, :k]
            found[torn] = again
            values[torn] = scores[torn].gather(1, again)
    by_code = torch.argsort(found, dim=1)
    found, values = found.gather(1, by_code), values.gather(1, by_code)
    by_score = torch.argsort(values, dim=1, descending=True, stable=True)
    return found.gather(1, by_score), values.gather(1, by_score)


def _without_repeats(scores: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the first of each item in rows sorted best first; the gaps move to the end."""
    by_code = torch.argsort(items, dim=1, stable=True)
    codes = items.gather(1, by_code)
    repeat = torch.zeros_like(codes, dtype=torch.bool)
    repeat[:, 1:] = (codes[:, 1:] == codes[:, :-1]) & (codes[:, 1:] >= 0)
    gone = torch.zeros_like(repeat).scatter(1, by_code, repeat)
    if not bool(gone.any()):
        return scores, items
    scores = scores.masked_fill(gone, -torch.inf)
    order = torch.argsort(gone.to(torch.int8), dim=1, stable=True)
    return scores.gather(1, order), items.gather(1, order)


class _Seeded(BaseModel):
    model_config = _STRICT

    seed: int = Field(ge=0)


@cache
def _checked(cls: type[Recommender]) -> Callable[..., None]:
    """The constructor of a class, its arguments held to their annotations."""
    init: Callable[..., None] = cls.__init__
    kinds = {one.kind for one in signature(init).parameters.values()}
    # Settings that are not named here are those of a pydantic model, which checks them itself.
    if Parameter.VAR_KEYWORD in kinds:
        return init
    return validate_call(config=_STRICT)(init)


class Recommender(ABC):
    """Anything that ranks: retrievers, rankers, re-rankers and cascades alike.

    Class attributes:
        name: the word used in recipes.
        reads: the signals of :class:`Requests` that change the answer.
        modes: ways to answer; the first is the default.
        takes: which of ``seed``, ``folder`` and ``quiet`` the class is made with.
    """

    name: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset({"history"})
    modes: ClassVar[tuple[str, ...]] = ("rank",)
    batch: ClassVar[int] = 1024

    @classmethod
    def create(
        cls,
        settings: dict[str, Any],
        *,
        seed: int = 0,
        folder: Path | None = None,
        quiet: bool = False,
    ) -> Self:
        """An unfitted recommender from the settings of a recipe.

        Args:
            settings: arguments of the class; a seed among them counts in place of ``seed``.
            seed: of everything random.
            folder: where a long fit keeps checkpoints, log and cached vectors.
            quiet: no progress bar.

        Raises:
            ValueError: a setting out of range; pydantic's ``ValidationError`` where it has another
                type, or the class has no such setting.
        """
        given = {"folder": folder, "quiet": quiet}
        taken = {key: value for key, value in given.items() if key in cls.takes}
        if "seed" in cls.takes:
            settings = {"seed": seed, **settings}
            _Seeded(seed=settings["seed"])
        made = cls.__new__(cls)
        _checked(cls)(made, **settings, **taken)
        return made

    @property
    def exact(self) -> bool:
        """Whether the first mode's list of k items is the head of its list of more."""
        return True

    @property
    def window(self) -> int | None:
        """How many of the last items of a history can change an answer; None: all of them."""
        return None

    @abstractmethod
    def fit(self, split: Split) -> Self:
        """Learn from ``split.train``; validation may choose, test is never read."""

    @abstractmethod
    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], higher is better; -inf where the model cannot say."""

    def recommend(self, requests: Requests, k: int = 10, *, mode: str | None = None) -> Ranking:
        """The k best items of each request, nothing seen, excluded or outside the catalogue.

        Where likes are told, a recommender that does not read ``liked`` is told the liked part of a
        history alone: it would take the rest for likes.

        Raises:
            ValueError: an unknown mode or k below one.
        """
        mode = self.modes[0] if mode is None else mode
        if mode not in self.modes:
            raise ValueError(f"{self.name} has no mode {mode!r}; it has {self.modes}")
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        if "liked" not in self.reads:
            requests = requests.of_likes()
        parts = [
            self._recommend(requests.slice(start, min(start + self.batch, len(requests))), k, mode)
            for start in range(0, len(requests), self.batch)
        ]
        if not parts:
            return Ranking(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))
        return Ranking.joined(parts)

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        scores = self.score(requests)
        if requests.candidates is None:
            return top_k(scores, k, forbidden=requests.forbidden())
        items = torch.from_numpy(requests.candidates.astype(np.int64))
        return top_k(
            scores.gather(1, items.clamp(min=0)), k, forbidden=requests.forbidden(), items=items
        )

    def extend(self, catalogue: pl.DataFrame, items: pl.DataFrame) -> Self:
        """A fitted recommender of more items, without training; this one stays as it is.

        Args:
            catalogue: the items that it was fitted on, as ``Dataset.items``.
            items: m new ones, with the same columns where they are known; they get the codes
                that follow those in use.

        Raises:
            OnomaError: the recommender, its encoder or its names have no place for new items.
        """
        raise OnomaError(f"{self.name} cannot take new items without training")

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d] whose products say how alike items are to the model, if it can."""
        return None

    def content(self) -> tuple[Any, NDArray[np.float32]] | None:
        """What the catalogue says of its items, if the model keeps it.

        Returns:
            A description of the encoder for ``encoding.build``, and float32[n_items, dim] vectors.
        """
        return None

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and settings into a folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote; ``dataset`` is the catalogue it was fitted on."""
