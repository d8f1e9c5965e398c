"""Titles in questions and answers: what a language model is tuned on, and what it then writes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Split
from onoma.errors import OnomaError
from onoma.language.torch_model import TorchModel
from onoma.neural.frozen import Composer, FrozenModule, Mixed, by_length

TOKENS = 4096  # of a batch that is read without gradients


class TitleWriter:
    """Asks for the title that follows those of a history, and reads what is answered.

    Args:
        model: whose tokenizer is used.
        titles: of the items, by code.
        things: what items are called in the question.
        longest: tokens of a title that are read and written.

    Raises:
        OnomaError: the tokenizer has no end of text.
    """

    def __init__(self, model: TorchModel, titles: Sequence[str], things: str, longest: int) -> None:
        self.tokenizer, self.things, self.longest = model.tokenizer, things, longest
        end = self.tokenizer.eos_token_id
        if end is None:
            raise OnomaError("the tokenizer has no end of text", where=str(model.folder))
        self.end = int(end)
        self.composer = Composer(self.tokenizer)
        self.titles = [self.tokens(title) for title in titles]

    def tokens(self, text: str) -> list[int]:
        """The tokens of a title that are read."""
        return self.composer.tokens(text)[: self.longest]

    def ask(
        self, histories: Sequence[NDArray[np.integer]], targets: NDArray[np.integer] | None = None
    ) -> Mixed:
        """Questions for the next title, with the answers where targets are given.

        Args:
            histories: n rows of item codes, oldest first.
            targets: int[n] item codes.
        """
        prompts = []
        for history in histories:
            line: list[str | int | None] = [f"A user chose these {self.things}: "]
            for code in history:
                line += ['"', *self.titles[int(code)], '", ']
            prompts.append([*line, 'then "'])
        if targets is None:
            return self.composer.compose(prompts)
        answers: list[list[str | int]] = [
            [*self.titles[int(code)], '"', self.end] for code in targets
        ]
        return self.composer.compose(prompts, answers)

    def write(
        self, module: FrozenModule, histories: Sequence[NDArray[np.integer]], beam: int
    ) -> list[str]:
        """The text that a model writes for each history, without quotes; may be empty.

        Args:
            module: not in training.
            histories: n rows of item codes, oldest first.
            beam: texts followed at a time.
        """
        lengths = [sum(len(self.titles[int(code)]) + 3 for code in row) for row in histories]
        out = [""] * len(histories)
        for part in by_length(lengths, TOKENS // beam):
            asked = self.ask([histories[row] for row in part])
            said = module.write(asked, {self.end}, self.longest + 1, beam=beam)
            for row, tokens in zip(part, said, strict=True):
                text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
                out[row] = _unquoted(text)
        return out


def _unquoted(text: str) -> str:
    """The first line up to where a quote ends, as a model that goes on with a list writes it."""
    first = (text.strip().splitlines() or [""])[0]
    return first.split('",')[0].strip().removesuffix('"').strip()


class NextTitle:
    """The trainer's view: a few histories of training, each with the title that follows.

    Args:
        module: what is tuned.
        writer: asks.
        split: its training part has the examples; validation is only watched.
        seed: draws the examples.
        samples: how many.
        recent: items of a history that are told, the last ones.
        batch: examples a step.
        watched: validation cases, evenly spaced.
    """

    judged = "likelihood"

    def __init__(
        self,
        module: FrozenModule,
        writer: TitleWriter,
        split: Split,
        seed: int,
        samples: int,
        recent: int,
        batch: int,
        watched: int,
    ) -> None:
        self.module, self.writer, self.train = module, writer, split.train
        self.recent, self.batch = recent, batch
        users = split.train.rows()
        self.before = np.arange(len(users)) - split.train.offsets[users]
        able = np.flatnonzero(self.before > 0)
        self.chosen = np.sort(np.random.default_rng([seed, 117]).permutation(able)[:samples])
        at = np.linspace(0, len(split.valid) - 1, min(watched, len(split.valid)))
        self.valid = split.valid.take(at.astype(np.int64))

    def plan(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Places of targets in the training values; histories of like length share a batch."""
        rng = np.random.default_rng([seed, epoch])
        length = np.minimum(self.before[self.chosen], self.recent)
        order = np.lexsort((rng.random(len(self.chosen)), length))
        cuts = np.arange(self.batch, len(order), self.batch)
        parts = [part for part in np.split(self.chosen[order], cuts) if len(part)]
        return [parts[n] for n in rng.permutation(len(parts))]

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        """Mean surprise at the tokens of the titles."""
        values = self.train.values
        histories = [values[at - min(self.before[at], self.recent) : at] for at in batch]
        return self.module.answer_loss(self.writer.ask(histories, values[batch]))

    def validate(self) -> float:
        """The geometric mean probability of the tokens of titles, in (0, 1]."""
        short = self.valid.history.last(self.recent)
        first = self.valid.targets.values[self.valid.targets.offsets[:-1]]
        total, count = 0.0, 0
        for start in range(0, len(short), self.batch):
            rows = range(start, min(start + self.batch, len(short)))
            asked = self.writer.ask([short[row] for row in rows], first[rows.start : rows.stop])
            tokens = int((asked.lengths - asked.answers).sum())
            total += float(self.module.answer_loss(asked)) * tokens
            count += tokens
        return math.exp(-total / max(count, 1))
