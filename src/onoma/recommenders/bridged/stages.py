"""The two stages of A-LLMRec, as the trainer sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from onoma.dataset import Cases, Split
from onoma.neural.device import autocast
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.soft import Drawn, Places
from onoma.recommenders.tuning import validation_ndcg

if TYPE_CHECKING:
    from onoma.recommenders.bridged.allmrec import ALLMRec
    from onoma.recommenders.bridged.candidates import CandidateRecommender

MIXES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # weights that validation chooses from


class Aligning:
    """The first stage: items and texts share vectors, out of which the SASRec recommends."""

    def __init__(self, owner: ALLMRec, split: Split) -> None:
        self.owner, self.split = owner, split
        names = np.arange(split.dataset.n_items)
        self.places = Places(split, None, owner.seed, names)

    def plan(self, seed: int, epoch: int) -> list[Drawn]:
        settings = self.owner.settings
        return self.places.plan(seed, epoch, settings.pairs, settings.against)

    def loss(self, batch: Drawn) -> Tensor:
        owner, module, settings = self.owner, self.owner.module, self.owner.settings
        history, _ = self.places.before(batch, owner.sequence.settings.length)
        states = owner.states(history).to(module.ids)
        asked = np.concatenate([batch.targets[:, None], batch.negatives], axis=1)
        found, columns = np.unique(asked, return_inverse=True)
        items = torch.from_numpy(np.maximum(found, 0)).to(states.device)
        where = torch.from_numpy(columns.reshape(asked.shape)).to(states.device)
        known = torch.from_numpy(asked >= 0).to(states.device)
        ids, content = module.ids[items], module.content[items]
        of_items, of_texts = module.item_in(ids), module.text_in(content)
        back = module.item_out(of_items)
        logits = (states[:, None] * back[where]).sum(2) * owner.scale
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1
        # Published losses are means over dimensions, of all that a batch names.
        return (
            F.binary_cross_entropy_with_logits(logits[known], labels[known])
            + settings.matching * F.mse_loss(of_items, of_texts)
            + settings.items * F.mse_loss(back, ids)
            + settings.texts * F.mse_loss(module.text_out(of_texts), content)
        )

    def validate(self) -> float:
        self.owner.forget()
        figure = validation_ndcg(self.owner, self.split.valid, mode="joint")
        self.owner.forget()
        return figure


class Telling:
    """The second stage: bridges that make the target's title likely among candidates."""

    judged = "hit@1"

    def __init__(self, owner: CandidateRecommender, split: Split) -> None:
        self.owner, settings = owner, owner.settings
        self.places = Places(split, settings.users, owner.seed, owner.module.names)
        self.cases = _spaced(split.valid, settings.checked)
        targets = self.cases.targets.values[self.cases.targets.offsets[:-1]]
        drawn = self.places.others(
            self.cases.users, targets, settings.shortlist - 1, np.random.default_rng(owner.seed)
        )
        self.lists = np.concatenate([targets[:, None], drawn], axis=1).astype(np.int32)

    def plan(self, seed: int, epoch: int) -> list[Drawn]:
        settings = self.owner.settings
        return self.places.plan(seed, epoch, settings.batch, settings.negatives)

    def loss(self, batch: Drawn) -> Tensor:
        owner, module, settings = self.owner, self.owner.module, self.owner.settings
        longest = max(settings.history, owner.sequence.settings.length)
        history, _ = self.places.before(batch, longest)
        told = history.last(settings.history)
        asked = np.concatenate([batch.targets[:, None], batch.negatives], axis=1)
        pools = np.take_along_axis(asked, batch.order, axis=1)
        made = [
            module.prompt(told[row].tolist(), pool[pool >= 0].tolist())
            for row, pool in enumerate(pools)
        ]
        prompts = module.composer.compose(
            [pieces for pieces, _ in made],
            [module.answer(int(target)) for target in batch.targets],
        )
        soft = module.told([codes for _, codes in made], owner.states(history))
        with autocast(module.device.type):
            return module.answer_loss(prompts, soft)

    def validate(self) -> float:
        """Hit@1 among drawn candidates by the titles alone; the weight of the mix is set, too."""
        owner = self.owner
        owner.forget()
        if not len(self.cases):
            return 0.0
        requests = replace(Requests.of(self.cases), candidates=self.lists)
        joint = owner.joint(requests)
        order = torch.argsort(joint, dim=1, descending=True, stable=True).numpy()
        ranks = np.full((len(self.cases), len(MIXES)), np.inf)
        for row, pool, values in owner.judged(requests, order):
            if len(at := np.flatnonzero(pool == self.lists[row, 0])):  # else it was taken before
                scores = joint[row, pool].double().numpy()
                ranks[row] = [_rank(values + mix * scores, int(at[0])) for mix in MIXES]
        best = int(np.argmax((1 / ranks).mean(axis=0)))  # the smallest among equals
        owner.module.mix.fill_(MIXES[best])
        owner.forget()
        return float((ranks[:, 0] == 1).mean())


def _rank(scores: NDArray[np.float64], place: int) -> float:
    """The rank of one score, ties in the middle."""
    return float(1 + (scores > scores[place]).sum() + ((scores == scores[place]).sum() - 1) / 2)


def _spaced(cases: Cases, count: int) -> Cases:
    if len(cases) <= count:
        return cases
    return cases.take(np.linspace(0, len(cases) - 1, count).astype(np.int64))
