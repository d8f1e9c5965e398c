"""A frozen language model that is taught to tell the order of a history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset, Ragged, Split
from onoma.neural.alignment import uniformity
from onoma.neural.device import autocast
from onoma.neural.frozen import by_length
from onoma.neural.trainer import Task
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.soft import (
    Drawn,
    Pieces,
    Places,
    SoftModule,
    SoftRecommender,
    SoftSettings,
    mlp,
)
from onoma.recommenders.tuning import validation_ndcg

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

# What stands around the titles. After each comes the vector of its item; each prompt ends in the
# place whose state is read.
USER = "A user {did} these {many}, in this order:"
NOBODY = "A user {did} no {one} yet."
USER_END = "\nThe user in one word:"
ITEM = "The {one}"
ITEM_END = " in one word:"
_TOKENS = 4096  # tokens of a batch when answering
_SAMPLE = 64  # users by whose states the heads' origin and units are set
_KEPT = 100_000  # vectors of histories that are kept


class LLMSRecSettings(SoftSettings):
    """The sizes, the losses, and what is told.

    Attributes:
        dates: whether the day of each interaction is told, where the data has times.
        hidden: units in the middle of the two heads.
        width: dimensions of the vectors whose products are the scores.
        negatives: items drawn for each user of a batch.
        shared: a user's target is told from all items of the batch; else from his own negatives.
        distil: weight of the lesson from the SASRec; 0: none.
        uniformity: weight of the guard against collapse, of users and of what is taught.
    """

    dates: bool = True
    hidden: int = Field(default=2048, ge=1)
    width: int = Field(default=128, ge=1)
    negatives: int = Field(default=3, ge=1)
    shared: bool = True
    distil: float = Field(default=1.0, ge=0)
    uniformity: float = Field(default=1.0, ge=0)


class LLMSRecModule(SoftModule):
    """What is trained around the language model: one bridge, two read-outs, two heads.

    Attributes:
        vectors: float32[n_items, width], the catalogue as it was last encoded.
        user_mean, user_spread, item_mean, item_spread: float32[h] of states, as of before training.
    """

    settings: LLMSRecSettings
    vectors: Tensor
    user_mean: Tensor
    user_spread: Tensor
    item_mean: Tensor
    item_spread: Tensor

    def __init__(
        self, model: TorchModel, titles: Sequence[str], ids: Tensor, settings: LLMSRecSettings
    ) -> None:
        super().__init__(model, titles, ids, settings)
        d, h, out = ids.shape[1], self.width, settings.width
        self.bridge = mlp((d, h, h), (nn.LayerNorm(h), nn.LeakyReLU()))
        words = self.lm.get_input_embeddings().weight.detach().float().cpu()
        mean, spread = words.mean(0), words.std(0)
        self.read_user, self.read_item = (
            nn.Parameter(mean + spread * torch.randn(h)) for _ in range(2)
        )
        middle = settings.hidden
        self.head_user, self.head_item = (
            mlp((h, middle, out), (nn.LayerNorm(middle), nn.LeakyReLU())) for _ in range(2)
        )
        if settings.distil:
            self.teach = mlp((d, out, out), (nn.LayerNorm(out), nn.GELU()))
        self.register_buffer("vectors", torch.zeros(self.n_items, out))
        for whose in ("user", "item"):
            self.register_buffer(f"{whose}_mean", torch.zeros(h))
            self.register_buffer(f"{whose}_spread", torch.ones(h))

    def told(self, items: Sequence[int], times: Sequence[int] | None = None) -> Pieces:
        """The prompt of a history, with as many places for vectors as items and one more."""
        pieces: Pieces = [*self.start, *self.tokens(USER if len(items) else NOBODY)]
        for place, item in enumerate(items):
            pieces += self.tokens(f"\n{place + 1}.")
            if self.settings.dates and times is not None and times[place] >= 0:
                pieces += self.tokens(f" {datetime.fromtimestamp(times[place], UTC):%Y-%m-%d},")
            pieces += [*self.titles[item], None]
        return [*pieces, *self.tokens(USER_END), None]

    def described(self, item: int) -> Pieces:
        """The prompt of an item, with two places for vectors."""
        said = self.titles[item]
        return [*self.start, *self.tokens(ITEM), *said, None, *self.tokens(ITEM_END), None]

    def users(self, histories: Sequence[Sequence[int]], times: Sequence[Sequence[int]]) -> Tensor:
        """float32[n, width] vectors of n users, from the items that are told and their times."""
        prompts = [self.told(row, when) for row, when in zip(histories, times, strict=True)]
        codes = [[*row, -1] for row in histories]
        states = self._states(prompts, codes, self.read_user)
        out: Tensor = self.head_user((states - self.user_mean) / self.user_spread)
        return out

    def items(self, items: Sequence[int]) -> Tensor:
        """float32[n, width] vectors of n items."""
        prompts = [self.described(item) for item in items]
        states = self._states(prompts, [[item, -1] for item in items], self.read_item)
        out: Tensor = self.head_item((states - self.item_mean) / self.item_spread)
        return out

    def settle(self) -> None:
        """Encode the whole catalogue with the weights as they are."""
        lengths = [len(self.described(item)) for item in range(self.n_items)]
        with torch.no_grad():
            for part in by_length(lengths, _TOKENS):
                rows = torch.tensor(part, device=self.vectors.device)
                self.vectors[rows] = self.items(part).to(self.vectors)

    @torch.no_grad()
    def centre(self, histories: Sequence[Sequence[int]], times: Sequence[Sequence[int]]) -> None:
        """Set the heads' origin and units by the states of some users and of their items.

        A language model's states have a large part in common, under which the differences between
        users drown for the first thousand steps.
        """
        prompts = [self.told(row, when) for row, when in zip(histories, times, strict=True)]
        items = sorted({item for row in histories for item in row})[: len(histories)]
        for whose, states in (
            ("user", self._states(prompts, [[*row, -1] for row in histories], self.read_user)),
            ("item", self._states([self.described(item) for item in items],
                                  [[item, -1] for item in items], self.read_item)),
        ):  # fmt: skip
            getattr(self, f"{whose}_mean").copy_(states.mean(0))
            spread = states.std(0, correction=0)
            # What does not vary, as of a single user, is not blown up.
            getattr(self, f"{whose}_spread").copy_(torch.where(spread > 1e-4, spread, 1.0))

    def _states(
        self, prompts: Sequence[Pieces], codes: Sequence[Sequence[int]], read: Tensor
    ) -> Tensor:
        """float32[n, h], the states where the read-out stands, which is a prompt's end."""
        flat = torch.tensor([code for row in codes for code in row], device=self.ids.device)
        vectors = self.bridge(self.ids[flat.clamp(min=0)])
        soft = torch.where((flat < 0)[:, None], read, vectors)
        return self.last(self.composer.compose(prompts), soft).float()


class LLMSRec(SoftRecommender):
    """LLM-SRec (S041): a frozen language model, read by two vectors, taught by a SASRec.

    Kim et al., "Lost in Sequence", KDD 2025. A SASRec is fitted first and stays as it is. A
    prompt tells the last items of a history in order, each with its title and, as a soft token,
    its SASRec vector; the state at a learnt token behind it becomes the user's vector, and an item
    gets one in the same way. Trained are these tokens, the bridge from the SASRec's vectors and
    two heads: targets are told from other items, user vectors are drawn to what a small map makes
    of the SASRec's state of the same history, and both are kept apart from each other.

    We depart from it in what keeps a short training short: a place of each history is drawn anew
    for each epoch and not only the last one taken, a target is told from all items of its batch
    (``shared: false``: from its own negatives), the heads read states less their mean over some
    users, in units of their spread, and the squared distance of the lesson is summed over
    dimensions, where a mean would leave its weight to their number.

    Args:
        train: the schedule of all but the SASRec; ``batch_tokens`` is not used, ``batch`` is.
        seed: of everything random.
        folder: where checkpoints and logs go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`LLMSRecSettings`.
    """

    name = "llm-srec"
    settings_type = LLMSRecSettings
    settings: LLMSRecSettings
    module: LLMSRecModule
    reads = frozenset({"history", "times"})
    batch = 256

    @property
    def window(self) -> int | None:
        """What is told; the SASRec only teaches."""
        return self.settings.history

    def _build(self, split: Split) -> LLMSRecModule:
        titles = self.titles(split.dataset)
        return LLMSRecModule(self.source, titles, self.item_ids(), self.settings)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> LLMSRecModule:
        ids = torch.zeros(dataset.n_items, weights["ids"].shape[1])
        return LLMSRecModule(self.source, self.titles(dataset), ids, self.settings)

    def _task(self, split: Split) -> Task:
        task = _Learning(self, split)
        told = self.settings.history
        # An epoch that is never trained draws the users whose states say where the origin is.
        for sample in task.places.plan(self.seed, self.train.epochs, _SAMPLE, 1)[:1]:
            items, times = task.places.before(sample, told)
            self.module.centre(*_rows(items, times, told))
        return task

    def forget(self) -> None:
        """Drop the vectors of histories."""
        self._known: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def user_vectors(self, requests: Requests) -> Tensor:
        """float32[n, width], what the language model makes of the histories.

        A history that was read before is not read again.
        """
        if self.module.training:
            self.module.eval()
        told = self.settings.history
        items, times = _rows(requests.history.last(told), requests.times, told)
        rows = [
            (*a, *(b if self.settings.dates else ())) for a, b in zip(items, times, strict=True)
        ]
        if len(self._known) > _KEPT:
            self.forget()
        known = {key: self._known[key] for key in rows if key in self._known}
        new = {key: row for row, key in enumerate(rows) if key not in known}
        fresh = list(new.values())
        lengths = [len(self.module.told(items[row], times[row])) for row in fresh]
        for part in by_length(lengths, _TOKENS):
            asked = [fresh[place] for place in part]
            found = self.module.users([items[row] for row in asked], [times[row] for row in asked])
            known |= {rows[row]: vector for row, vector in zip(asked, found.cpu(), strict=True)}
        self._known |= {key: known[key] for key in new}
        return torch.stack([known[key] for key in rows]) if rows else torch.zeros(
            0, self.settings.width
        )  # fmt: skip

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], products of users and the encoded catalogue."""
        return self.user_vectors(requests) @ self.module.vectors.cpu().T

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, width], the encoded catalogue."""
        vectors: NDArray[np.float32] = self.module.vectors.cpu().numpy()
        return vectors


class _Learning:
    """The trainer's view."""

    def __init__(self, owner: LLMSRec, split: Split) -> None:
        self.owner, self.split = owner, split
        settings = owner.settings
        names = np.arange(split.dataset.n_items)  # items of one title have different vectors
        self.places = Places(split, settings.users, owner.seed, names)

    def plan(self, seed: int, epoch: int) -> list[Drawn]:
        settings = self.owner.settings
        return self.places.plan(seed, epoch, settings.batch, settings.negatives)

    def loss(self, batch: Drawn) -> Tensor:
        owner, module, settings = self.owner, self.owner.module, self.owner.settings
        longest = max(settings.history, owner.sequence.settings.length)
        history, times = self.places.before(batch, longest)
        told = settings.history
        items, when = _rows(history.last(told), times, told)
        asked = np.concatenate([batch.targets[:, None], batch.negatives], axis=1)
        wanted, columns = np.unique(asked, return_inverse=True)
        with autocast(module.device.type):
            users = module.users(items, when)
            # -1, where nothing was found, is encoded as any item and then left out.
            products = users @ module.items(np.maximum(wanted, 0).tolist()).T
        products = products.float().masked_fill(_tensor(wanted < 0, users), -torch.inf)
        places = _tensor(columns.reshape(asked.shape), users)
        if settings.shared:
            out = F.cross_entropy(products, places[:, 0])
        else:
            out = F.cross_entropy(products.gather(1, places), torch.zeros_like(places[:, 0]))
        return out + self._lesson(users.float(), history)

    def _lesson(self, users: Tensor, history: Ragged) -> Tensor:
        """How crowded users are, and how far from what is made of the SASRec's states."""
        settings = self.owner.settings
        users = F.normalize(users, dim=1)
        crowd = uniformity(users)
        if not settings.distil:
            return settings.uniformity * crowd
        states = self.owner.states(history).to(users.device)
        taught = F.normalize(self.owner.module.teach(states), dim=1)
        apart = (users - taught).square().sum(1).mean()
        return settings.distil * apart + settings.uniformity * (crowd + uniformity(taught))

    def validate(self) -> float:
        self.owner.forget()
        self.owner.module.settle()
        return validation_ndcg(self.owner, self.split.valid, limit=self.owner.settings.checked)


def _rows(
    items: Ragged, times: Ragged | None, last: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Items and their times row by row; -1 for every time where nobody knows them."""
    when = Ragged(items.offsets, np.full_like(items.values, -1)) if times is None else times
    when = when.last(last)
    n = len(items)
    return [items[row].tolist() for row in range(n)], [when[row].tolist() for row in range(n)]


def _tensor(array: NDArray[np.generic], like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like.device)
