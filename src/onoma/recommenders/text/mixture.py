"""The training mixture: every epoch draws examples of each family for every user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Split
from onoma.neural.device import autocast, device
from onoma.recommenders.text.corpus import Corpus
from onoma.recommenders.text.tasks import Question
from onoma.recommenders.tuning import validation_ndcg

if TYPE_CHECKING:
    from onoma.recommenders.text.base import TextRecommender


class Mixture:
    """The trainer's view of a text model.

    Of every user that a family can ask about, an epoch draws as many events as the recipe says,
    and of every event one of the family's prompts, so an epoch has the same number of examples
    whatever is drawn. Prompts that are held are never drawn.

    Args:
        owner: the model.
        split: its data.
    """

    def __init__(self, owner: TextRecommender, split: Split) -> None:
        self.owner, self.split = owner, split
        self.corpus = owner.corpus(split, "train")
        self.asker = owner.asker(split, self.corpus)
        self.families = [name for name, count in owner.settings.families.items() if count]
        self.prompts = {name: owner.prompts_of(name) for name in self.families}
        events = {name: owner.able(self.corpus, name) for name in self.families}
        self.events = {name: found for name, found in events.items() if len(found)}
        self.cost = _cost(self.corpus, owner, self.families)

    def plan(self, seed: int, epoch: int) -> list[Any]:
        """Batches of ``(families, events, seed)``, rows of about equal length together."""
        rng = np.random.default_rng([seed, epoch])
        family, event = [], []
        for number, name in enumerate(self.families):
            if name in self.events:
                drawn = _draw(self.corpus, self.events[name], self._count(name), rng)
                family.append(np.full(len(drawn), number))
                event.append(drawn)
        families, events = np.concatenate(family), np.concatenate(event)
        lengths = self.cost(families, events) * (1 + 0.1 * rng.random(len(events)))
        order = np.argsort(lengths, kind="stable")
        rows = self.owner.settings.batch
        parts = [order[start : start + rows] for start in range(0, len(order), rows)]
        return [
            (families[part], events[part], int(rng.integers(2**31)))
            for part in (parts[i] for i in rng.permutation(len(parts)))
        ]

    def _count(self, name: str) -> int:
        return self.owner.settings.families[name]

    def questions(self, batch: Any) -> list[Question]:
        """The examples of a batch; an event that no prompt fits is left out."""
        families, events, seed = batch
        rng = np.random.default_rng(seed)
        asked = (
            self.owner.question(self.asker, self.prompts[self.families[family]], int(event), rng)
            for family, event in zip(families, events, strict=True)
        )
        return [one for one in asked if one is not None]

    def loss(self, batch: Any) -> Tensor:
        """Mean over the batch's answer tokens; all parts but the last have passed back already."""
        questions, owner, where = self.questions(batch), self.owner, device()
        tokens, words, lengths = owner.tensors(questions)
        answers = owner.answers(questions)
        positions = tokens.shape[1] + answers.shape[1]
        rows = max(1, owner.train.batch_tokens // positions)
        total = int((answers >= 0).sum())
        before = torch.zeros((), device=where)
        for start in range(0, len(questions), rows):
            part = slice(start, start + rows)
            width = int(lengths[part].max())
            with autocast(where.type):
                context = owner.module.read(
                    tokens[part, :width], words[part, :width], lengths[part]
                )
                loss = owner.module.loss(context, answers[part])
            loss = loss * (int((answers[part] >= 0).sum()) / total)
            if start + rows >= len(questions):
                break
            loss.backward()  # type: ignore[no-untyped-call]
            before += loss.detach()
        return loss + before

    def validate(self) -> float:
        limit = self.owner.settings.judged or None
        return validation_ndcg(self.owner, self.split.valid, limit=limit, mode=self.owner.judged_in)


def _draw(
    corpus: Corpus, events: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` events of every user that has any, with repeats."""
    users = corpus.users[events]
    first = np.flatnonzero(np.diff(users, prepend=-1))
    sizes = np.diff(np.append(first, len(users)))
    owner = np.tile(np.arange(len(first)), count)
    return events[first[owner] + (rng.random(len(owner)) * sizes[owner]).astype(np.int64)]


def _cost(corpus: Corpus, owner: TextRecommender, families: Sequence[str]) -> Any:
    """About how many tokens a question has, so that like lengths share a batch."""
    name = float(owner.spelling.lengths.mean()) + 1
    history = np.minimum(corpus.before.lengths, owner.settings.length)
    title = np.mean([len(text) for text in corpus.titles[:1000]]) / 4 + 1
    length = {
        "history": history * name,
        "titles": history * title,
        "review": np.array([len(text) / 4 for text in corpus.reviews]),
        "candidates": np.full(len(corpus), owner.settings.candidates * name),
        "description": np.array([len(text) / 4 for text in corpus.descriptions])[corpus.items],
    }
    of = []
    for family in families:
        prompts = owner.prompts_of(family)
        total = sum(
            (length[field] for p in prompts for field in p.fields if field in length),
            start=np.zeros(len(corpus)),
        )
        of.append(np.minimum(24 + total / max(len(prompts), 1), owner.settings.longest))
    table = np.array(of)

    def cost(family: NDArray[np.int64], events: NDArray[np.int64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = table[family, events]
        return out

    return cost
