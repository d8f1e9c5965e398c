"""Picking the next title among drawn candidates, as the trainer sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from onoma.dataset import Split
from onoma.neural.device import autocast
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.soft import Drawn, Places

if TYPE_CHECKING:
    from onoma.recommenders.tuned.rsllm import RSLLM


class Choosing:
    """A stage: the target's title is the answer, in whatever the module reads at present.

    Args:
        owner: whose module is trained.
        split: its training part has the histories.
        skipped: epochs whose draws belong to an earlier stage.
    """

    judged = "hit@1"

    def __init__(self, owner: RSLLM, split: Split, skipped: int) -> None:
        self.owner, self.skipped, settings = owner, skipped, owner.settings
        self.places = Places(split, settings.users, owner.seed, owner.module.names)
        count = min(settings.checked, len(split.valid))
        self.cases = split.valid.take(np.linspace(0, len(split.valid) - 1, count).astype(np.int64))
        targets = self.cases.targets.values[self.cases.targets.offsets[:-1]]
        drawn = self.places.others(
            self.cases.users, targets, settings.shortlist - 1, np.random.default_rng(owner.seed)
        )
        self.lists = np.concatenate([targets[:, None], drawn], axis=1).astype(np.int32)

    def plan(self, seed: int, epoch: int) -> list[Drawn]:
        """Each user once, a place and candidates drawn anew, the target anywhere among them."""
        settings = self.owner.settings
        return self.places.plan(seed, epoch + self.skipped, settings.batch, settings.negatives)

    def loss(self, batch: Drawn) -> Tensor:
        """The weighted sum of the three losses."""
        module, settings = self.owner.module, self.owner.settings
        history, _ = self.places.before(batch, settings.history)
        asked = np.concatenate([batch.targets[:, None], batch.negatives], axis=1)
        pools = np.take_along_axis(asked, batch.order, axis=1)
        prompts = [
            module.prompt(history[row].tolist(), pool[pool >= 0].tolist())
            for row, pool in enumerate(pools)
        ]
        with autocast(module.device.type):
            said, following, own = module.losses(prompts, batch.targets.tolist())
        return said + settings.alpha * following + settings.beta * own

    def validate(self) -> float:
        """Hit@1 among drawn candidates, by likelihood."""
        owner = self.owner
        owner.forget()
        if not len(self.cases):
            return 0.0
        requests = replace(Requests.of(self.cases), candidates=self.lists)
        order = torch.argsort(owner.sequence.score(requests).cpu(), dim=1, descending=True)
        hits = 0.0
        for row, pool, values, _ in owner.judged(requests, order.numpy(), write=False):
            if len(at := np.flatnonzero(pool == self.lists[row, 0])):  # else it was taken before
                best = values == values.max()
                hits += best[at[0]] / best.sum()
        owner.forget()
        return float(hits / len(self.cases))
