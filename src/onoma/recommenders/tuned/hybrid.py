"""Questions in which items are words and behaviour tokens, and the losses that tie the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.language.tokentree import weigh
from onoma.neural.frozen import LoraSettings
from onoma.neural.softrow import SoftRow
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.bridged.soft import Pieces, SoftModule, SoftSettings, mlp

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

Told = Literal["both", "text", "ids"]
HISTORY = "A user {did} these {many}, in this order:"
NOBODY = "A user {did} no {one} yet."
ASK = "\nThe next {one} is one of these:"
ANSWER = "\nThe next {one}:"
END = "\n"
_MARK, _END = -1, -2  # codes of what is learnt: what announces a behaviour token, a question's end
_FIRST = TrainSettings(epochs=1, lr=1e-3, valid_every=1)


class RSLLMSettings(SoftSettings):
    """The two stages, the losses, and what is asked.

    Attributes:
        lora: the low-rank updates.
        first: the schedule of the stage in words alone; None leaves it out.
        told: what the second stage and answers read: words and behaviour tokens, words alone (the
            control of the same length), or histories of behaviour tokens alone.
        marked: which items have a behaviour token.
        dealt: whether the SASRec's vectors are dealt out among the items: a control.
        alpha: weight of the loss by which the state behind a question finds the target's token.
        beta: weight of the loss by which titles find their own tokens.
        temperature: of both.
        negatives: candidates beside the target in training.
        shortlist: candidates that are told at most; the others follow.
    """

    lora: LoraSettings = LoraSettings()
    first: TrainSettings | None = _FIRST
    told: Told = "both"
    marked: Literal["all", "history"] = "all"
    dealt: bool = False
    alpha: float = Field(default=0.1, ge=0)
    beta: float = Field(default=0.1, ge=0)
    temperature: float = Field(default=0.07, gt=0)
    batch: int = Field(default=4, ge=1)
    negatives: int = Field(default=19, ge=1)
    shortlist: int = Field(default=20, ge=2)
    checked: int = Field(default=100, ge=1)


@dataclass
class Asked:
    """One question.

    Attributes:
        history: items that are told.
        pool: candidates, in the order in which they are told.
        pieces: tokens, and None where a vector stands.
        codes: who stands there: an item, or a negative number for what is learnt.
        spans: item, first and last place (exclusive) of each title.
        end: the place whose state finds the target's token; -1 where there is none.
    """

    history: Sequence[int]
    pool: Sequence[int]
    pieces: Pieces
    codes: list[int] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    end: int = -1

    def put(self, code: int) -> None:
        """A vector comes next."""
        self.pieces.append(None)
        self.codes.append(code)


class HybridPrompts(SoftModule):
    """A language model with updates, and the map from a SASRec's items to behaviour tokens.

    Args:
        model: the language model.
        titles: n_items titles.
        ids: float32[n_items, d], each row of mean square 1.
        settings: what is told, and how losses count.

    Attributes:
        projector: the map, of two layers.
        marks: float32[2, width], learnt: what announces a behaviour token, and a question's end.
        told: what is read at present.
        size: the mean length of the language model's own vectors, which behaviour tokens have too:
            others would be passed over, or drown the words.
    """

    settings: RSLLMSettings

    def __init__(
        self, model: TorchModel, titles: Sequence[str], ids: Tensor, settings: RSLLMSettings
    ) -> None:
        super().__init__(model, titles, ids, settings, lora=settings.lora)
        h = self.width
        self.told: Told = settings.told
        self.projector = mlp((ids.shape[1], h, h), (nn.GELU(),))
        words = self.lm.get_input_embeddings().weight.detach().float().cpu()
        self.marks = nn.Parameter(words.mean(0) + words.std(0) * torch.randn(2, h))
        self.size = float(words.norm(dim=1).mean())
        self.end = self.composer.tokens(END)

    def begin(self, told: Told) -> None:
        """Go on to a stage that reads this; what it does not read is not trained."""
        self.told = told
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(told != "text" or name.startswith("updates"))
            parameter.grad = None  # else the next stage's gradients are clipped with the last ones

    def prompt(self, history: Sequence[int], pool: Sequence[int]) -> Asked:
        """The question which item of a pool follows a history."""
        asked = Asked(history, pool, list(self.start))
        asked.pieces += self.tokens(HISTORY if len(history) else NOBODY)
        vectors = self.told != "text"
        self._list(asked, history, words=self.told != "ids", vectors=vectors)
        asked.pieces += self.tokens(ASK)
        # An answer is a title, so candidates always have theirs.
        marked = vectors and self.settings.marked == "all"
        self._list(asked, pool, words=True, vectors=marked)
        asked.pieces += self.tokens(ANSWER)
        if vectors:
            asked.end = len(asked.pieces)
            asked.put(_END)
        return asked

    def _list(self, asked: Asked, items: Sequence[int], *, words: bool, vectors: bool) -> None:
        for place, item in enumerate(items):
            asked.pieces += self.tokens(";") if place else []
            if words:
                begin = len(asked.pieces)
                asked.pieces += self.titles[item]
                asked.spans.append((item, begin, len(asked.pieces)))
            if vectors:
                asked.put(_MARK)
                asked.put(item)

    def answer(self, item: int) -> list[int]:
        """The tokens of a title and of its end, so that none is the beginning of another."""
        return [*self.titles[item], *self.end]

    def projected(self, items: Tensor) -> Tensor:
        """float[n, width], behaviour tokens of int64[n] items, as long as words on average."""
        return F.normalize(self.projector(self.ids[items]), dim=1) * self.size

    def soft(self, asked: Sequence[Asked]) -> Tensor | None:
        """float[m, width], the vectors of n questions in reading order; None where none is told."""
        if self.told == "text":
            return None
        flat = torch.tensor([code for one in asked for code in one.codes], device=self.ids.device)
        items = self.projected(flat.clamp(min=0))
        learnt = self.marks[(_MARK - flat).clamp(min=0)]
        return torch.where((flat < 0)[:, None], learnt, items)

    def losses(self, asked: Sequence[Asked], targets: Sequence[int]) -> tuple[Tensor, ...]:
        """Three scalars of n questions, before they are weighed.

        Args:
            asked: n questions; each target is in its pool.
            targets: n items.

        Returns:
            The mean surprise at the tokens of the answers; how hard the state behind a question
            finds the target's behaviour token among those of all candidates of the batch; how hard
            the mean state of a title's tokens finds the item's own token among those of all items
            of the batch. The latter two are 0 where they do not count or words alone are read.
        """
        prompts = self.composer.compose(
            [one.pieces for one in asked], [self.answer(target) for target in targets]
        )
        states = self.read(prompts, self.soft(asked))
        said = self.answer_loss(prompts, states=states)
        none = said.new_zeros(())
        if self.told == "text":
            return said, none, none
        return (
            said,
            self._next(asked, targets, states) if self.settings.alpha else none,
            self._own(asked, states) if self.settings.beta else none,
        )

    def _next(self, asked: Sequence[Asked], targets: Sequence[int], states: Tensor) -> Tensor:
        # Each item is one column, however often it was drawn: no target is its own negative.
        items = np.unique(np.concatenate([np.asarray(one.pool, dtype=np.int64) for one in asked]))
        ends = torch.tensor([one.end for one in asked], device=states.device)
        behind = states[torch.arange(len(asked), device=states.device), ends]
        wanted = np.asarray(targets, dtype=np.int64)
        # What a user took already is no wrong answer.
        taken = np.stack([np.isin(items, np.asarray(one.history)) for one in asked])
        return self._contrast(behind, items, wanted, taken)

    def _own(self, asked: Sequence[Asked], states: Tensor) -> Tensor:
        spans = [(row, *span) for row, one in enumerate(asked) for span in one.spans]
        named = np.array([item for _, item, _, _ in spans], dtype=np.int64)
        at = [
            (number, row, place)
            for number, (row, _, begin, end) in enumerate(spans)
            for place in range(begin, end)
        ]
        number, row, place = torch.tensor(at, device=states.device).unbind(1)
        sums = states.new_zeros((len(spans), states.shape[2]), dtype=torch.float32)
        sums = sums.index_add(0, number, states[row, place].float())  # their length says nothing
        everyone = [code for one in asked for code in one.codes if code >= 0]
        items = np.unique(np.concatenate([named, np.array(everyone, dtype=np.int64)]))
        alike = self.names[items][None, :] == self.names[named][:, None]
        return self._contrast(sums, items, named, alike)

    def _contrast(
        self,
        rows: Tensor,
        items: NDArray[np.int64],
        wanted: NDArray[np.int64],
        out: NDArray[np.bool_],
    ) -> Tensor:
        """Cross-entropy of cosines between rows and behaviour tokens.

        Args:
            rows: float[n, width].
            items: int64[m], sorted, no item twice.
            wanted: int64[n], each one of ``items``.
            out: bool[n, m], which items are no negatives of a row.
        """
        columns = torch.from_numpy(np.searchsorted(items, wanted)).to(rows.device)
        tokens = self.projected(torch.from_numpy(items).to(rows.device)).float()
        cosines = F.normalize(rows.float(), dim=1) @ F.normalize(tokens, dim=1).T
        hidden = torch.from_numpy(out & (items[None, :] != wanted[:, None])).to(rows.device)
        logits = (cosines / self.settings.temperature).masked_fill(hidden, -torch.inf)
        return F.cross_entropy(logits, columns)

    @torch.no_grad()
    def weigh(
        self, history: Sequence[int], pool: Sequence[int], *, write: bool
    ) -> tuple[NDArray[np.float64], int]:
        """Log-likelihoods of the titles of c candidates as the answer, and the answer written.

        The question is read once, and so are beginnings that titles share.

        Args:
            history: items that are told.
            pool: c items in the order in which they are told.
            write: whether the likeliest answer is written, token by token out of all tokens.

        Returns:
            float64[c], and the place of the candidate that is called as is written; -1 where none
            is, or nothing was to be written.
        """
        asked = self.prompt(history, pool)
        row = SoftRow(self.lm)  # one a question: several may be answered at a time
        row.place(self._inputs(self.composer.compose([asked.pieces]), self.soft([asked]))[0])
        answers = [self.answer(item) for item in pool]
        found = weigh(row, answers, [0] * len(answers))
        return found, _written(row, answers) if write else -1


def _written(row: SoftRow, answers: Sequence[Sequence[int]]) -> int:
    """The answer that greedy writing gives; -1 as soon as it leaves all of them."""
    left, state, node, step = list(range(len(answers))), row.end, -1, 0
    while True:
        token = int(row.logits(state[None])[0].argmax())
        left = [place for place in left if answers[place][step] == token]
        if not left:
            return -1
        step += 1
        if len(answers[left[0]]) == step:
            return left[0]
        state = row.grow(torch.tensor([token]), torch.tensor([node]))[0]
        node += 1
