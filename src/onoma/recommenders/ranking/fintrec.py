"""Clicks and what comes of them, predicted from long histories, multiplied into a value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Cases, Dataset, Ragged, Split
from onoma.neural.batching import SequenceBatches
from onoma.neural.device import device
from onoma.neural.noise import Noise
from onoma.neural.trainer import Task
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.ranking.clicks import ClickRanker, auc, held, logloss
from onoma.recommenders.ranking.events import Asked, Events, Tower, TowerSettings
from onoma.recommenders.ranking.facts import Catalogue, catalogue, ratings, rested
from onoma.recommenders.trained import TrainedModule

_STRANGERS = 0.1  # share of training rows whose user is not told
_SILENT = 0.5  # share of training rows whose responses are not told
_PAIRS = 4096  # scored at a time


class FinTRecSettings(TowerSettings):
    """The towers, what a conversion is, and what it is worth.

    Attributes:
        length: events that the clicks' tower reads; the tower of conversions reads as many.
        above: a rating that is higher is a conversion; a log without ratings has none.
        foundation: width of the vectors of a user's whole activity, made once before training;
            0 leaves them out.
        value: a column of the catalogue that says what a conversion is worth; None: all the same.
        cap: an item that comes so often in the last ``within`` days of a history rests; None: no
            item does.
        within: days.
    """

    above: float = 3.0
    places: int = Field(default=2, ge=1)
    foundation: int = Field(default=16, ge=0)
    value: str | None = None
    cap: int | None = Field(default=None, ge=1)
    within: float = Field(default=7.0, gt=0)


class FinTRecModule(TrainedModule):
    """A causal tower that asks for a click at every place, and one of what comes of a click.

    Args:
        catalogue: of items and users.
        settings: of the towers.
    """

    kinds: Tensor
    people: Tensor
    foundation: Tensor
    values: Tensor

    def __init__(self, catalogue: Catalogue, settings: FinTRecSettings) -> None:
        super().__init__()
        self.n_items, self.n_users = len(catalogue.kinds), len(catalogue.people)
        self.noise = Noise()
        # Row 0 of items is none; the last row of users is a stranger.
        self.register_buffer("kinds", torch.from_numpy(np.pad(catalogue.kinds, ((1, 0), (0, 0)))))
        self.register_buffer("people", torch.from_numpy(np.pad(catalogue.people, ((0, 1), (0, 0)))))
        self.register_buffer("foundation", torch.from_numpy(catalogue.foundation))
        self.register_buffer("values", torch.from_numpy(catalogue.values))
        sizes = [self.n_items + 1, *(int(column.max()) + 1 for column in self.kinds.T)]
        dense = self.people.shape[1] + self.foundation.shape[1]
        shape = ([*sizes, 3], sizes, len(sizes), dense)
        self.clicks = Tower(*shape, causal=True, settings=settings, noise=self.noise)
        self.conversions = Tower(*shape, causal=False, settings=settings, noise=self.noise)

    def fields(self, items: Tensor) -> Tensor:
        """int64[..., 3]: item (from 1), category and brand of item codes; -1 is none."""
        return torch.cat([items[..., None] + 1, self.kinds[items + 1]], dim=-1)


class FinTRec(ClickRanker):
    """FinTRec (S118): contextual targeting by transformers over long histories of unlike events.

    Sumanth et al., 2025. Items are what is advertised. A decoder reads the events before, asks at
    every place whether what came next is taken, and so has many targets a user; an encoder reads
    the same events both ways and says whether what is taken will be liked (a conversion). Event
    vectors add up item, category, brand, response (where a request tells it; training leaves out
    half) and what the time says; the heads are also told who the user is and a vector of his whole
    activity. Items are ranked by ``p(click) p(conversion | click) value``. Adapters for products,
    context of real impressions, and calibration are those of ``onoma study placements``, whose logs
    have such things. Validation picks the epoch by the mean of both AUCs.

    We depart from it where an ordinary log shows no impressions: negatives are then uniform, and
    ratings stand for conversions.

    Args:
        train: the schedule; ``batch_tokens`` is used, ``batch`` is not.
        seed: of weights, batches and negatives.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`FinTRecSettings`.
    """

    name = "fintrec"
    modes = ("rank", "clicks")
    module: FinTRecModule
    settings: FinTRecSettings
    settings_type = FinTRecSettings
    reads = frozenset({"history", "users", "times", "liked", "candidates"})

    @property
    def window(self) -> None:
        """The whole activity enters."""

    def _build(self, split: Split) -> FinTRecModule:
        told = self.settings
        return FinTRecModule(catalogue(split, told.value, told.foundation), told)

    def _task(self, split: Split) -> Task:
        return _Both(self, split)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> FinTRecModule:
        kinds = weights["kinds"][1:].numpy()
        if len(kinds) != dataset.n_items:
            raise ValueError(f"weights of {len(kinds)} items")
        known = Catalogue(
            kinds, weights["people"][:-1].numpy(), weights["foundation"].numpy(),
            weights["values"].numpy(),
        )  # fmt: skip
        return FinTRecModule(known, self.settings)

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], the logarithm of what is to be expected."""
        every = torch.arange(self.module.n_items).expand(len(requests), -1)
        return self._valued(*self._asked(requests, every), every)

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        codes = requests.candidates
        if codes is None:
            items = torch.arange(self.module.n_items).expand(len(requests), -1)
        else:
            items = torch.from_numpy(codes.astype(np.int64))
        clicks, conversions = self._asked(requests, items.clamp(min=0))
        scores = clicks
        if mode == "rank":
            scores = self._valued(clicks, conversions, items.clamp(min=0))
        forbidden = requests.forbidden()
        if self.settings.cap is not None:
            forbidden = forbidden.concat(rested(requests, self.settings.cap, self.settings.within))
        return top_k(scores, k, forbidden=forbidden, items=None if codes is None else items)

    def _valued(self, clicks: Tensor, conversions: Tensor, items: Tensor) -> Tensor:
        worth = self.module.values.cpu()[items]
        return F.logsigmoid(clicks) + F.logsigmoid(conversions) + worth.log()

    def _scored(self, requests: Requests, items: Tensor) -> Tensor:
        return self._asked(requests, items)[0]

    @torch.no_grad()
    def _asked(self, requests: Requests, items: Tensor) -> tuple[Tensor, Tensor]:
        """Twice float32[n, c], logits of a click and of a conversion of int64[n, c] items."""
        module, where = self.module, device()
        module.eval()
        wide = items.shape[1]
        out = (torch.empty(items.shape), torch.empty(items.shape))
        step = max(1, _PAIRS // max(wide, 1))
        for start in range(0, len(requests), step):
            part = requests.slice(start, min(start + step, len(requests)))
            read, dense, before = self._read(part)
            events, dense, before = read.to(where), dense.to(where), before.to(where)
            about = Asked(
                module.fields(items[start : start + step].reshape(-1).to(where)),
                dense.repeat_interleave(wide, 0),
                torch.full((len(part) * wide,), -1, device=where),
                before.repeat_interleave(wide),
            )
            ends = events.known.sum(1)
            states = module.clicks.states(events)[torch.arange(len(part), device=where), ends]
            both = module.conversions.states(events, before)
            for tower, state, into in zip(
                (module.clicks, module.conversions), (states, both), out, strict=True
            ):
                logits = tower.logits(state.repeat_interleave(wide, 0), about)
                into[start : start + step] = logits.view(-1, wide).cpu()
        return out

    def _read(self, requests: Requests) -> tuple[Events, Tensor, Tensor]:
        """Histories, float32[n, k] what else is known, int64[n] the times of the last events."""
        module, length = self.module, self.settings.length
        short = requests.history.last(length)
        width = max(1, int(short.lengths.max(initial=0)))
        items = torch.from_numpy(short.padded(-1, width=width).astype(np.int64))
        times, response = torch.full_like(items, -1), torch.zeros_like(items)
        if requests.times is not None:
            padded = requests.times.last(length).padded(-1, width=width)
            times = torch.from_numpy(padded.astype(np.int64))
        if requests.liked is not None:
            told = requests.liked.last(length).padded(-1, width=width)
            response = torch.from_numpy(told.astype(np.int64)) + 1
        last = (torch.from_numpy(short.lengths) - 1).clamp(min=0)[:, None]
        before = times.gather(1, last)[:, 0]
        history = requests.history
        events = sp.csr_array(
            (np.ones(len(history.values), np.float32), history.values, history.offsets),
            shape=(len(history), module.n_items),
        )  # an item that came twice counts twice, as in training
        whole = events @ module.foundation.cpu().numpy()
        counts = np.maximum(history.lengths, 1)[:, None]
        codes = np.full(len(requests), -1) if requests.users is None else requests.users
        known = (codes >= 0) & (codes < module.n_users)
        people = module.people.cpu()[torch.from_numpy(np.where(known, codes, module.n_users))]
        activity = torch.from_numpy((whole / counts).astype(np.float32))
        where = module.kinds.device
        fields = torch.cat([module.fields(items.to(where)).cpu(), response[..., None]], dim=2)
        return Events(fields, times, items >= 0), torch.cat([people, activity], dim=1), before

    def figures(self, split: Split) -> dict[str, dict[str, float]]:
        """Clicks of validation and test, and who likes what he took, where ratings say."""
        return self.figures_of("valid", split) | self.figures_of("test", split)

    def figures_of(
        self, part: Literal["valid", "test"], split: Split
    ) -> dict[str, dict[str, float]]:
        """One part's share of :meth:`figures`."""
        cases = split.valid if part == "valid" else split.test
        out: dict[str, dict[str, float]] = {part: self.click_figures(cases)}
        rated = ratings(split)
        if rated is not None:
            first = rated[1 if part == "valid" else 2][cases.targets.offsets[:-1]]
            given = np.flatnonzero(~np.isnan(first))
            out[f"{part}, liked"] = self._conversions(
                cases.take(given), first[given] > self.settings.above
            )
        return out

    def _conversions(self, cases: Cases, labels: NDArray[np.bool_]) -> dict[str, float]:
        """Figures of bool[n], whether the first targets of n cases were liked."""
        if not len(cases):
            return {"auc": 0.5, "logloss": float(np.log(2)), "pairs": 0}
        first = cases.targets.values[cases.targets.offsets[:-1]]
        targets = torch.from_numpy(first.astype(np.int64))[:, None]
        asked = Requests(cases.history, cases.users, times=cases.times, liked=cases.liked)
        logits = self._asked(asked, targets)[1][:, 0].double().numpy()
        return {"auc": auc(logits, labels), "logloss": logloss(logits, labels.astype(np.float64)),
                "pairs": len(labels)}  # fmt: skip

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], what candidates are to the clicks' tower."""
        module = self.module
        with torch.no_grad():
            every = module.fields(torch.arange(module.n_items, device=module.kinds.device))
            tables = [table for table in module.clicks.fields if isinstance(table, nn.Embedding)]
            parts = [table(codes) for table, codes in
                     zip(tables, every.unbind(1), strict=False)]  # fmt: skip
            table: NDArray[np.float32] = torch.stack(parts).sum(0).cpu().numpy()
        return table


class _Both:
    """The trainer's view: a click and a negative at every place, a conversion in every row."""

    judged = "auc"

    def __init__(self, owner: FinTRec, split: Split) -> None:
        self.owner, self.split = owner, split
        train, n_items = split.train, split.dataset.n_items
        places = Ragged(train.offsets, np.arange(len(train.values)))
        self.batches = SequenceBatches(places, owner.train.batch_tokens, owner.settings.length)
        self.items = torch.from_numpy(train.values.astype(np.int64))
        self.times = torch.from_numpy(split.train_times)
        rated = ratings(split)
        liked = np.full(len(train.values), -1)
        if rated is not None:
            known = ~np.isnan(rated[0])
            liked[known] = rated[0][known] > owner.settings.above
        self.liked = torch.from_numpy(liked)
        self.taken = np.unique(train.rows() * n_items + train.values)
        # What was done up to and with every place, for the vectors of whole activity.
        vectors = owner.module.foundation.cpu().numpy()[train.values]
        total = np.cumsum(vectors, axis=0, dtype=np.float64)
        first = train.offsets[:-1][train.rows()]
        begun = (total - vectors)[first]
        count = np.arange(len(first)) - first + 1
        self.activity = torch.from_numpy(((total - begun) / count[:, None]).astype(np.float32))

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return self.batches.plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        places, following = self.batches.tensors(batch, -1)
        known = places >= 0
        at = places.clamp(min=0)
        items = self.items[at].masked_fill(~known, -1)
        times = self.times[at].masked_fill(~known, -1)
        quiet = module.noise.uniform(len(batch)) < _SILENT
        response = (self.liked[at] + 1).masked_fill(~known | quiet[:, None], 0)
        fields = torch.cat([module.fields(items.to(where)).cpu(), response[..., None]], dim=2)
        events = Events(fields, times, known).to(where)
        rows, columns = known.nonzero(as_tuple=True)
        here, next_ = at[rows, columns], following[rows, columns]
        users = torch.from_numpy(self.batches.owners[batch])[rows]
        told = module.noise.uniform(len(batch)) >= _STRANGERS
        people = module.people.cpu()[torch.where(told[rows], users, module.n_users)]
        dense = torch.cat([people, self.activity[here]], dim=1)
        now = torch.full_like(here, -1)  # nobody tells when he will ask
        right, before = self.items[next_], times[rows, columns]
        wrong = module.noise.integers(module.n_items, len(rows))
        keys = (users * module.n_items + wrong).numpy()
        free = torch.from_numpy(~held(keys, self.taken))
        states = module.clicks.states(events)[rows.to(where), columns.to(where) + 1]
        twice = Asked(
            module.fields(torch.cat([right, wrong[free]]).to(where)),
            torch.cat([dense, dense[free]]).to(where),
            torch.cat([now, now[free]]).to(where),
            torch.cat([before, before[free]]).to(where),
        )
        labels = torch.zeros(len(twice), device=where)
        labels[: len(right)] = 1
        free = free.to(where)
        logits = module.clicks.logits(torch.cat([states, states[free]]), twice)
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        said = (self.liked[following.clamp(min=0)] >= 0) & known
        if not bool(said.any()):
            return loss
        # A few places a row: the encoder reads what was there before each, and nothing behind.
        drawn = module.noise.uniform(said.numel()).view(said.shape).masked_fill(~said, -1.0)
        best, column = drawn.topk(min(self.owner.settings.places, said.shape[1]), dim=1)
        row = torch.arange(len(said))[:, None].expand_as(best)[best >= 0]
        column = column[best >= 0]
        read = events[row.to(where)]
        seen = torch.arange(known.shape[1]) <= column[:, None]
        read = replace(read, known=read.known & seen.to(where))
        # Where the pairs of the batch stand in the flat list above.
        index = (known.view(-1).cumsum(0).view(known.shape) - 1)[row, column]
        about = Asked(
            module.fields(right[index].to(where)), dense[index].to(where),
            now[index].to(where), before[index].to(where),
        )  # fmt: skip
        logits = module.conversions.logits(
            module.conversions.states(read, before[index].to(where)), about
        )
        labels = self.liked[next_[index]].float().to(where)
        return loss + F.binary_cross_entropy_with_logits(logits, labels)

    def validate(self) -> float:
        found = self.owner.figures_of("valid", self.split)
        return sum(part["auc"] for part in found.values()) / len(found)
