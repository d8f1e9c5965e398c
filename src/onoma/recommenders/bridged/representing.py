"""The two stages of ILM: items learn to be read as texts, then to be told among words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Split
from onoma.neural.device import autocast
from onoma.neural.qformer import QueryTransformer
from onoma.recommenders.bridged.soft import Drawn, Pieces, Places
from onoma.recommenders.bridged.stages import Telling

if TYPE_CHECKING:
    from onoma.recommenders.bridged.ilm import ILM

_ROWS = 1024  # items encoded at a time where no gradient is wanted
_SHARPEST = 100.0
CALLED = (" The {one}", " is called")
KIND = (" The {one}", " is of the kind")
ALSO = (" Those who {did}", " also {did}")


class ItemLanguage(nn.Module):
    """Texts beside a query transformer, and the losses by which its queries learn to be read.

    Args:
        content: float32[n_items, D], text vectors of mean square 1, which begin a text.
        texts: int32[n_items, t], places in ``table``, -1 behind a text.
        table: float32[v + 1, width], vectors of words; the last one ends a text.
        joint: dimensions in which queries, texts and other items are compared.
    """

    content: Tensor
    texts: Tensor

    def __init__(self, content: Tensor, texts: Tensor, table: Tensor, joint: int) -> None:
        super().__init__()
        width = table.shape[1]
        self.register_buffer("content", content)
        self.register_buffer("texts", texts)
        self.words = nn.Parameter(table)
        self.front = nn.Linear(content.shape[1], width)
        self.begins = nn.Parameter(torch.randn(width) * width**-0.5)
        self.query_out, self.text_out = nn.Linear(width, joint), nn.Linear(width, joint)
        self.match = nn.Linear(width, 1)
        # Of texts and of pairs. A text is one item's; beside an item many stand about as well.
        self.log_scales = nn.Parameter(-torch.tensor([0.07, 0.2]).log())

    def scales(self) -> Tensor:
        """float32[2], what cosines with texts and with other items are multiplied with."""
        return self.log_scales.exp().clamp(max=_SHARPEST)

    def text(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """float[b, 1 + t, width] and bool[b, 1 + t]: the text's vector, then its words."""
        tokens = self.texts[items].long()
        first = self.front(self.content[items])[:, None]
        return torch.cat([first, self.words[tokens.clamp(min=0)]], 1), F.pad(
            tokens >= 0, (1, 0), value=True
        )

    def compared(self, states: Tensor) -> Tensor:
        """float32[b, q, joint], directions of the queries' states."""
        return F.normalize(self.query_out(states).float(), dim=2)

    def as_texts(self, former: QueryTransformer, items: Tensor) -> Tensor:
        """float32[b, joint], directions of texts that are read alone."""
        words, known = self.text(items)
        return F.normalize(self.text_out(former.read(words, known)[:, 0]).float(), dim=1)

    def described(
        self, former: QueryTransformer, vectors: Tensor, items: Tensor, same: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The three losses of BLIP-2 between items and their texts.

        Args:
            former: reads both.
            vectors: float32[b, d] of the items.
            items: int64[b].
            same: bool[b, b], who is called the same; the diagonal among them.

        Returns:
            Scalars: the contrast of items and texts by the query that fits best, both ways;
            whether a text is the item's, against the likeliest wrong ones; and the cross-entropy
            of the text's words one after the other, behind the queries.
        """
        words, known = self.text(items)
        texts = F.normalize(self.text_out(former.read(words, known)[:, 0]).float(), dim=1)
        queries = self.compared(former(vectors))
        logits = (queries @ texts.T).amax(1) * self.scales()[0]
        goal = torch.arange(len(items), device=logits.device)
        shown = logits.masked_fill(
            same & ~torch.eye(len(goal), dtype=torch.bool).to(same), -math.inf
        )
        contrast = (F.cross_entropy(shown, goal) + F.cross_entropy(shown.T, goal)) / 2
        return (
            contrast,
            self._matched(former, vectors, (words, known), logits.detach(), same),
            self._told(former, vectors, items),
        )

    def _matched(
        self,
        former: QueryTransformer,
        vectors: Tensor,
        text: tuple[Tensor, Tensor],
        logits: Tensor,
        same: Tensor,
    ) -> Tensor:
        able = ~same.all(1)
        if not bool(able.any()):
            return logits.sum() * 0
        rows = able.nonzero()[:, 0]
        likely = [part.masked_fill(same, -math.inf)[rows].softmax(1) for part in (logits, logits.T)]
        others, strangers = (torch.multinomial(part, 1)[:, 0] for part in likely)
        words, known = text
        read, _ = former.together(
            torch.cat([vectors[rows], vectors[rows], vectors[strangers]]),
            torch.cat([words[rows], words[others], words[rows]]),
            torch.cat([known[rows], known[others], known[rows]]),
            "both",
        )
        said = self.match(read).float().mean((1, 2))
        labels = torch.cat([torch.ones(len(rows)), torch.zeros(2 * len(rows))]).to(said)
        return F.binary_cross_entropy_with_logits(said, labels)

    def _told(self, former: QueryTransformer, vectors: Tensor, items: Tensor) -> Tensor:
        # The text's own vector would tell what is to be said, so a learnt one stands in front.
        tokens = self.texts[items].long()
        first = self.begins.expand(len(items), 1, -1)
        words = torch.cat([first, self.words[tokens.clamp(min=0)].to(first)], 1)
        known = F.pad(tokens >= 0, (1, 0), value=True)
        _, states = former.together(vectors, words, known, "causal")
        wanted = F.pad(tokens, (0, 1), value=-1)
        wanted[torch.arange(len(items)), (tokens >= 0).sum(1)] = len(self.words) - 1
        logits = states[known] @ self.words.T.to(states) * states.shape[2] ** -0.5
        return F.cross_entropy(logits.float(), wanted[known])

    def alike(self, first: Tensor, second: Tensor) -> Tensor:
        """float32[n, m], the largest cosine of any two queries of float32[., q, joint] rows."""
        n, q, joint = first.shape
        cosines = first.reshape(n * q, joint) @ second.reshape(-1, joint).T
        return cosines.view(n, q, len(second), q).amax((1, 3))

    def paired(self, first: Tensor, second: Tensor, log_count: Tensor, left_out: Tensor) -> Tensor:
        """The contrast of what one user took: each of ``first`` finds its own of ``second``.

        Args:
            first: float32[b, q, joint].
            second: float32[b, q, joint], the others of a row are its negatives.
            log_count: float32[b], how often each of ``second`` was taken, so that what is often
                there as a negative is not pushed away for it.
            left_out: bool[b, b], negatives that do not count, the diagonal never among them.
        """
        logits = self.alike(first, second) * self.scales()[1] - log_count
        goal = torch.arange(len(first), device=logits.device)
        return F.cross_entropy(logits.masked_fill(left_out, -math.inf), goal)


@dataclass(frozen=True)
class Seen:
    """A batch of the first stage.

    Attributes:
        drawn: users, and a place in the history of each.
        partners: int64[b], an item that each user took before that place.
        items: int64[m], items that are read with their texts.
    """

    drawn: Drawn
    partners: NDArray[np.int64]
    items: NDArray[np.int64]


class Representing:
    """The first stage: queries learn from texts, from what is taken together, and from users."""

    judged = "mrr"

    def __init__(self, owner: ILM, split: Split) -> None:
        self.owner, self.split = owner, split
        names = np.arange(split.dataset.n_items)
        self.places = Places(split, None, owner.seed, names)
        self.counts = np.maximum(split.train_counts, 1)
        # The sequence model knows nothing of the others.
        self.warm = np.flatnonzero(split.train_counts > 0)

    def plan(self, seed: int, epoch: int) -> list[Seen]:
        """Each user once; as many items beside them, all of the catalogue in turn."""
        size = self.owner.settings.pairs
        drawn = self.places.plan(seed, epoch, size, 0)
        rng = np.random.default_rng([seed, epoch, 1])
        turns = -(-len(drawn) * size // max(len(self.warm), 1))
        items = np.concatenate([self.warm[:0], *(rng.permutation(self.warm) for _ in range(turns))])
        out = []
        for number, one in enumerate(drawn):
            before = (rng.random(len(one.users)) * one.ends).astype(np.int64)
            partners = self.places.train.values[self.places.train.offsets[one.users] + before]
            part = items[number * size : (number + 1) * size]
            out.append(Seen(one, partners.astype(np.int64), part.astype(np.int64)))
        return out

    def loss(self, batch: Seen) -> Tensor:
        owner, settings = self.owner, self.owner.settings
        module, where = owner.module, owner.module.ids.device
        language, former = module.language, module.former
        items = torch.from_numpy(batch.items).to(where)
        names = module.names[batch.items]
        same = torch.from_numpy(names[:, None] == names[None]).to(where)
        out = torch.zeros((), device=where)
        with autocast(where.type):
            if settings.contrast or settings.matching or settings.telling:
                contrast, matching, telling = language.described(
                    former, module.ids[items], items, same
                )
                out = out + settings.contrast * contrast + settings.matching * matching
                out = out + settings.telling * telling
            if settings.beside or settings.taking:
                out = out + self._together(batch)
        return out

    def _together(self, batch: Seen) -> Tensor:
        owner, settings, drawn = self.owner, self.owner.settings, batch.drawn
        module, where = owner.module, owner.module.ids.device
        language, former = module.language, module.former
        # Repeats would be pairs of an item with itself.
        kept = np.flatnonzero(batch.partners != drawn.targets)
        if not len(kept):
            return module.ids.sum() * 0
        targets, users = drawn.targets[kept], drawn.users[kept]
        taken = self.places.took(users, targets) & ~np.eye(len(kept), dtype=bool)
        left_out = torch.from_numpy(taken).to(where)
        log_count = torch.from_numpy(np.log(self.counts[targets])).float().to(where)
        second = language.compared(former(module.ids[torch.from_numpy(targets).to(where)]))
        out = torch.zeros((), device=where)
        if settings.beside:
            partners = torch.from_numpy(batch.partners[kept]).to(where)
            first = language.compared(former(module.ids[partners]))
            out = out + settings.beside * language.paired(first, second, log_count, left_out)
        if settings.taking:
            history, _ = self.places.before(drawn, owner.sequence.settings.length)
            states = owner.states(history).to(module.ids)[torch.from_numpy(kept).to(where)]
            first = language.compared(former(states))
            out = out + settings.taking * language.paired(first, second, log_count, left_out)
        return out

    def validate(self) -> float:
        """Mean reciprocal rank of an item's own text, and of what follows an item, in equal parts.

        Texts among those of ``checked`` items; validation targets among all items, from the last
        item of the history.
        """
        module, checked = self.owner.module, self.owner.settings.checked
        every = encoded(self.owner)
        some = self.warm[
            np.linspace(0, len(self.warm) - 1, min(checked, len(self.warm))).astype(int)
        ]
        items = torch.from_numpy(some).to(every.device)
        texts = module.language.as_texts(module.former, items)
        fits = (every[items] @ texts.T).amax(1)
        figures = [_mrr(fits, torch.arange(len(items), device=fits.device))]
        history, targets = self.split.valid.history, self.split.valid.targets
        able = np.flatnonzero(history.lengths > 0)
        able = able[np.linspace(0, len(able) - 1, min(checked, len(able))).astype(int)]
        if len(able):
            last = history.values[history.offsets[1:][able] - 1].astype(np.int64)
            wanted = targets.values[targets.offsets[:-1][able]].astype(np.int64)
            scores = module.language.alike(every[torch.from_numpy(last)], every)
            scores[torch.arange(len(last)), torch.from_numpy(last)] = -math.inf
            figures.append(_mrr(scores, torch.from_numpy(wanted).to(scores.device)))
        return float(np.mean(figures))


def encoded(owner: ILM) -> Tensor:
    """float32[n_items, q, joint], directions of the queries of all items."""
    module = owner.module
    with torch.no_grad():
        parts = [
            module.language.compared(module.former(part)) for part in torch.split(module.ids, _ROWS)
        ]
    return torch.cat(parts)


class Conversing(Telling):
    """The second stage: the next title among candidates, and a few words about single items."""

    owner: ILM

    def loss(self, batch: Drawn) -> Tensor:
        out = super().loss(batch)
        weight = self.owner.settings.speaking
        return out + weight * self.spoken(batch) if weight else out

    def spoken(self, batch: Drawn) -> Tensor:
        """What an item is called, what kind it is of, and what is taken beside it, by vectors."""
        module = self.owner.module
        drawn = np.where(batch.negatives[:, 0] >= 0, batch.negatives[:, 0], batch.targets)
        begins = self.places.train.offsets[batch.users]
        earlier = self.places.train.values[begins + batch.ends - 1]
        asked: list[tuple[int, Pieces, list[int]]] = []
        for item, last, target in zip(
            drawn.tolist(), earlier.tolist(), batch.targets.tolist(), strict=True
        ):
            asked.append((item, module.about(CALLED), module.answer(item)))
            if module.kinds[item]:
                asked.append((item, module.about(KIND), [*module.kinds[item], *module.end]))
            asked.append((last, module.about(ALSO), module.answer(target)))
        prompts = module.composer.compose(
            [pieces for _, pieces, _ in asked], [answer for _, _, answer in asked]
        )
        items = torch.tensor([item for item, _, _ in asked], device=module.ids.device)
        with autocast(module.device.type):
            return module.answer_loss(prompts, module.of_items(items).flatten(0, 1))


def _mrr(scores: Tensor, wanted: Tensor) -> float:
    """Mean reciprocal rank of int64[n] columns of float32[n, m]; ties count half."""
    own = scores.gather(1, wanted[:, None])
    ranks = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return float((1 / ranks).mean())
