"""OnePiece: a structured context, blocks of latent reasoning, a stronger task at every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from onoma.dataset import Dataset, Ragged, Split
from onoma.neural.batching import PrefixBatches
from onoma.neural.device import device
from onoma.neural.trainer import Task
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.ranking.clicks import attributes, held
from onoma.recommenders.ranking.commitment import anchors, asked_about, levels, task_figures
from onoma.recommenders.ranking.reasoned import Asked, OnePieceModule, OnePieceSettings
from onoma.recommenders.trained import TrainedRecommender

_STRANGERS = 0.1  # share of training histories whose user is not told
_CELLS = 1 << 14  # candidates scored at a time


class OnePiece(TrainedRecommender):
    """OnePiece (S061): context engineering and latent reasoning for retrieval and ranking.

    After the public text of the paper (2025). Tokens of the situation, of anchor groups (what most
    people took, and how far they went, in the category in view, before the question) and of the
    history pass bidirectional layers. Then come ``steps`` blocks of latent states behind the
    candidates of a group (``ranking``) or the tokens of the situation (``retrieval``); step k is
    trained for task k, from taken to the end of the chain.

    Departs from it: the context does not read candidates, so it is computed once for all groups;
    groups are cut by item code, which is a seeded shuffle; sizes and weights are ours.

    Modes:
        last: the strongest task, from the last step.
        combined: the mean logit of all tasks.

    Args:
        train: the schedule; ``batch_tokens`` is not used, ``batch`` is.
        seed: of weights, batches and negatives.
        folder: where checkpoints and the log go; None keeps them in memory only.
        quiet: no progress bar.
        settings: of :class:`OnePieceSettings`.
    """

    name = "onepiece"
    modes = ("last", "combined")
    reads = frozenset({"history", "users", "times", "candidates"})
    module: OnePieceModule
    settings_type = OnePieceSettings
    settings: OnePieceSettings

    def _build(self, split: Split) -> OnePieceModule:
        dataset, s = split.dataset, self.settings
        kinds = attributes(dataset.items)
        found = levels(split, s.levels).train
        starts, lists = anchors(split, found, kinds[:, 0], len(s.levels) + 1, max(1, s.anchors))
        share = split.train_counts.astype(np.float32)
        return OnePieceModule(dataset.n_users, kinds, starts, lists, share, s)

    def _rebuild(
        self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]
    ) -> OnePieceModule:
        kinds: NDArray[np.int64] = weights["kinds"][:-1].numpy()
        if len(kinds) != dataset.n_items:
            raise ValueError(f"weights of {len(kinds)} items")
        starts, lists, share = (weights[name].numpy() for name in ("starts", "lists", "share"))
        users = len(weights["situation.0.weight"]) - 1
        return OnePieceModule(users, kinds, starts, lists, share, self.settings)

    def _task(self, split: Split) -> Task:
        return _Groups(self, split)

    def asked(self, requests: Requests) -> Asked:
        """The context of n requests."""
        history, n = requests.history, self.module.n_users
        short = history.last(self.settings.length)
        width = max(1, int(short.lengths.max(initial=0)))
        table = torch.from_numpy(short.padded(self.module.n_items, width=width))
        codes = np.full(len(history), -1) if requests.users is None else requests.users
        who = np.where((codes >= 0) & (codes < n), codes, n).astype(np.int64)
        now = np.full(len(history), -1, dtype=np.int64)
        if requests.times is not None:
            some = np.flatnonzero(history.lengths > 0)
            now[some] = requests.times.values[requests.times.offsets[1:][some] - 1]
        return Asked(table, torch.from_numpy(who), torch.from_numpy(now),
                     torch.from_numpy(history.lengths))  # fmt: skip

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items], logits of the strongest task."""
        return self._every(requests)[..., -1].contiguous()

    def _every(self, requests: Requests) -> Tensor:
        """float32[n, n_items, tasks]."""
        every = torch.arange(self.module.n_items).expand(len(requests), -1)
        return self.task_scores(requests, every)

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        items = None
        if requests.candidates is None:
            scores = self._every(requests)
        else:
            items = torch.from_numpy(requests.candidates.astype(np.int64))
            scores = self.task_scores(requests, items)
        found = scores[..., -1] if mode == "last" else scores.mean(2)
        return top_k(found.contiguous(), k, forbidden=requests.forbidden(), items=items)

    @torch.no_grad()
    def task_scores(self, requests: Requests, items: Tensor) -> Tensor:
        """float32[n, c, tasks] logits of int64[n, c] items; -inf for padding (-1) and repeats.

        In ranking the items of a row are cut into groups of the trained size in the order of
        their codes, so an answer depends on which items are asked about and not on their order.
        """
        module, tasks = self.module, self.module.tasks
        if module.training:
            module.eval()
        where, table = device(), module.table()
        out = torch.full((*items.shape, tasks), -torch.inf)
        step = max(1, min(512, _CELLS // max(1, items.shape[1])))
        for start in range(0, len(requests), step):
            rows = slice(start, min(start + step, len(requests)))
            asked = self.asked(requests.slice(rows.start, rows.stop)).to(where)
            part = items[rows].to(where)
            if self.settings.stage == "retrieval":
                users = module.users(module.states(asked, None, table))
                vectors = F.normalize(table, dim=1)[part.clamp(min=0)]
                found = torch.einsum("btd,bmd->bmt", users, vectors)
                found = found * module.slope + module.height
                out[rows] = found.masked_fill(part[:, :, None] < 0, -torch.inf).cpu()
                continue
            groups, order = self._grouped(part)
            found = module.judged(module.states(asked, groups, table))
            found = found.masked_fill((groups == module.n_items)[..., None], -torch.inf)
            found = found.flatten(1, 2)[:, : part.shape[1]]
            out[rows] = (
                torch.empty_like(found)
                .scatter_(1, order[:, :, None].expand(-1, -1, tasks), found)
                .cpu()
            )
        return out

    def _grouped(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """int64[b, g, m] groups in the order of codes, n_items for none, and the order."""
        n, size = self.module.n_items, self.settings.group
        codes, order = torch.sort(torch.where(items < 0, n, items), dim=1, stable=True)
        again = F.pad(codes[:, 1:] == codes[:, :-1], (1, 0), value=False)
        codes = codes.masked_fill(again, n)
        codes = F.pad(codes, (0, -codes.shape[1] % size), value=n)
        return codes.view(len(codes), -1, size), order

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32[n_items, d], the vectors that tokens of items begin as."""
        with torch.no_grad():
            table: NDArray[np.float32] = self.module.table()[:-1].cpu().numpy()
        return table

    def feedback_figures(self, split: Split, part: str) -> dict[str, Any]:
        """Figures by task of the targets of ``valid`` or ``test``, beside negatives drawn evenly.

        Returns:
            As :func:`onoma.recommenders.ranking.commitment.task_figures`; ``cosines`` of each
            step's states with those of the step before; ``work``, multiplications of one forward
            pass over a full context and one group.
        """
        cases = getattr(split, part)
        module, s = self.module, self.settings
        if not len(cases):
            return {"auc": [0.5] * module.tasks, "pairs": 0}
        items = asked_about(cases, module.n_items, s.against / s.following)
        level = getattr(levels(split, s.levels), part)
        asked = Requests.of(cases)
        found = self.task_scores(asked, torch.from_numpy(items)).numpy()
        tokens = s.seeds + s.length + (module.tasks * (s.anchors + 2) if s.anchors else 0)
        ranks = s.stage == "ranking"
        return {
            **task_figures(cases, level, items, found),
            "cosines": self._copied(asked.slice(0, 128), items[:128]),
            "work": module.reasoner.work(tokens, s.group if ranks else s.seeds, ranks),
        }

    @torch.no_grad()
    def _copied(self, requests: Requests, items: NDArray[np.int64]) -> list[float]:
        module, where = self.module, device()
        groups = None
        if self.settings.stage == "ranking":
            groups = self._grouped(torch.from_numpy(items[:, : self.settings.group]).to(where))[0]
        states = module.states(self.asked(requests).to(where), groups, module.table())
        there = torch.ones_like(states[0][..., 0], dtype=torch.bool)
        if groups is not None:
            there = groups < module.n_items
        return [float(F.cosine_similarity(a, b, dim=3)[there].mean())
                for a, b in zip(states[1:], states[:-1], strict=True)]  # fmt: skip


class _Runs(PrefixBatches):
    """Histories with the next items of their user, each item in one run an epoch at most."""

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([seed, epoch])
        place = self.targets - self.sequences.offsets[self.owners]
        shift = rng.integers(0, self.following, len(self.sequences))[self.owners]
        kept = np.flatnonzero((place + shift) % self.following == 0)
        kept = kept[np.lexsort((rng.random(len(kept)), self.lengths[kept]))]
        batches = np.split(kept, np.arange(self.rows, len(kept), self.rows))
        return [batches[i] for i in rng.permutation(len(batches)) if len(batches[i])]


class _Groups:
    """The trainer's view: groups of what followed and of what did not."""

    judged = "auc"

    def __init__(self, owner: OnePiece, split: Split) -> None:
        self.owner, self.split, s = owner, split, owner.settings
        self.runs = _Runs(split.train, s.batch, s.length, s.following)
        self.level = _Runs(Ragged(split.train.offsets, levels(split, s.levels).train), s.batch, 1,
                           s.following)  # fmt: skip
        rows = split.train.rows()
        self.place = np.arange(len(rows)) - split.train.offsets[rows]
        self.taken = np.unique(rows * split.dataset.n_items + split.train.values)

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        return self.runs.plan(seed, epoch)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, s = self.owner.module, self.owner.settings
        n, b, noise = module.n_items, len(batch), module.noise
        history, _, users, right = self.runs.tensors(batch, n)
        went = self.level.tensors(batch, -1)[3]
        # How many of a group were taken differs from group to group, as it does when answering.
        count = noise.integers(s.following, b) + 1
        right = right.masked_fill(torch.arange(s.following) >= count[:, None], n)
        wrong = noise.integers(n, b * s.against).view(b, -1)
        keys = (users[:, None] * n + wrong).numpy()
        wrong = wrong.masked_fill(torch.from_numpy(held(keys, self.taken)), n)
        items = torch.cat([right, wrong], dim=1)
        went = torch.cat([went, torch.full_like(wrong, -1)], dim=1)
        labels = (went[:, :, None] >= torch.arange(module.tasks)) & (items < n)[:, :, None]
        at = self.runs.targets[batch]
        told = noise.uniform(b) >= _STRANGERS
        asked = Asked(
            history,
            torch.where(told, users, module.n_users),
            torch.from_numpy(self.split.train_times[at - 1]),
            torch.from_numpy(self.place[at]),
        )
        where = device()
        return module.loss(asked.to(where), items.to(where), labels.to(where))

    def validate(self) -> float:
        figures: list[float] = self.owner.feedback_figures(self.split, "valid")["auc"]
        return figures[-1]
