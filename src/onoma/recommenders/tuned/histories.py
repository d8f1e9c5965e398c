"""Histories as texts: a small causal model that is read at the ends of items' texts."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.attention import attend_in_float32
from onoma.neural.frozen import by_length
from onoma.neural.loss import full_softmax
from onoma.neural.noise import Dropout, GlobalNoise
from onoma.recommenders.text.causal import small_config
from onoma.recommenders.trained import TrainedModule

_TOKENS = 16384  # of a batch that is read without gradients, padding included


class LMRecSettings(BaseModel):
    """The language model, its texts, and what each loss counts.

    Attributes:
        width: of the model.
        layers: its blocks.
        heads: its attention heads.
        inner: of its feed-forward.
        dropout: rate on the vectors of words.
        vocabulary: byte-pair tokens learnt from the catalogue.
        fields: columns of the catalogue that make an item's text.
        words: tokens of an item's text that are read.
        length: items of a history that are read, the last ones.
        language: weight of the language model's loss; 0 is the control that only matches.
        matching: weight of the matching loss, the paper's lambda.
        negatives: items drawn for a step.
        agnostic: a data folder whose histories the language model reads too; their items are not
            matched.
        mix: share of the agnostic texts among all.
        judged: validation cases that pick the weights, evenly spaced; all where 0.
        start: the folder of a finished run whose tokenizer and language model are taken over.
        freeze: leave the language model of ``start`` as it is and train the two maps alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=256, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=8, ge=1)
    inner: int = Field(default=768, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    vocabulary: int = Field(default=8000, ge=300)
    fields: tuple[str, ...] = ("title", "brand", "categories")
    words: int = Field(default=24, ge=1)
    length: int = Field(default=20, ge=2)
    language: float = Field(default=1.0, ge=0)
    matching: float = Field(default=1.0, gt=0)
    negatives: int = Field(default=256, ge=1)
    agnostic: str | None = None
    mix: float = Field(default=0.3, gt=0, lt=1)
    judged: int = Field(default=0, ge=0)
    start: str | None = None
    freeze: bool = False


class LMRecModule(TrainedModule):
    """A causal language model, and two maps of its states at the ends of texts.

    Args:
        settings: of the model.
        size: of the vocabulary.
        end: the token that ends an item's text, and stands before the first.
        texts: int32[n_items, l] tokens, -1 behind a text.
    """

    texts: Tensor

    def __init__(self, settings: LMRecSettings, size: int, end: int, texts: Tensor) -> None:
        from transformers import AutoModel

        super().__init__()
        s = settings
        self.settings, self.end, self.n_items, self.noise = s, end, len(texts), GlobalNoise()
        self.lm: Any = AutoModel.from_config(
            small_config(size, s.width, s.layers, s.heads, s.inner)
        )
        attend_in_float32(self.lm)
        self.dropout = Dropout(s.dropout, self.noise)
        self.of_user, self.of_item = (nn.Linear(s.width, s.width, bias=False) for _ in range(2))
        for linear in (self.of_user, self.of_item):
            nn.init.normal_(linear.weight, std=s.width**-0.5)
        # Among so many drawn items hardly a pair is true, which no weight has to learn.
        self.bias = nn.Parameter(torch.tensor(-math.log(s.negatives)))
        self.register_buffer("texts", texts)

    def states(self, rows: Tensor) -> Tensor:
        """float[b, l, d] of int64[b, l] tokens, -1 behind them, where states mean nothing."""
        words = self.dropout(self.lm.embed_tokens(rows.clamp(min=0)))
        out: Tensor = self.lm(inputs_embeds=words, use_cache=False).last_hidden_state
        return out

    def at_ends(self, items: Tensor) -> Tensor:
        """float[n, d], the states at the ends of the texts of int64[n, m] items.

        ``n_items`` pads behind the items; texts of like length are read together.
        """
        rows, ends = lines(self.texts, items, self.end)
        last, parts, order = ends[:, -1], [], []
        for part in by_length((last + 1).tolist(), _TOKENS):
            row = torch.tensor(part, device=rows.device)
            short = rows[row, : int(last[row].max()) + 1]
            parts.append(self.states(short)[torch.arange(len(part)), last[row]])
            order += part
        if not parts:
            return self.bias.new_zeros(0, self.settings.width)
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[back.to(rows.device)]

    def items(self, codes: Tensor) -> Tensor:
        """float32[n, d] of int64[n] items, what users are multiplied with."""
        # The root of the width keeps first products near one, where the loss is not steep.
        found: Tensor = self.of_item(self.at_ends(codes[:, None])).float()
        return found * self.settings.width**-0.5

    def language(self, rows: Tensor, states: Tensor) -> tuple[Tensor, int]:
        """Mean surprise at the tokens of texts but the first, and how many there are.

        Args:
            rows: int64[b, l] tokens, -1 behind them.
            states: float[b, l, d].
        """
        said = rows[:, 1:] >= 0
        before, following = states[:, :-1][said], rows[:, 1:][said]
        return full_softmax(before.float(), self.lm.embed_tokens.weight, following), len(following)

    def match(self, users: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """Mean over users of the binary surprise at what came next and at drawn items.

        Args:
            users: float[m, d] states at the ends of histories.
            targets: int64[m] items that came next.
            drawn: int64[k] items that all users share; a user's own target does not count.
        """
        used, place = torch.unique(torch.cat([targets, drawn]), return_inverse=True)
        vectors = self.items(used)
        told = self.of_user(users).float()
        hit = (told * vectors[place[: len(targets)]]).sum(1) + self.bias
        miss = told @ vectors[place[len(targets) :]].T + self.bias
        wrong = F.softplus(miss).masked_fill(targets[:, None] == drawn, 0.0)
        return (F.softplus(-hit) + wrong.sum(1)).mean()


def lines(texts: Tensor, items: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """The texts of items one after the other, an end before the first and behind each.

    Args:
        texts: int32[n_items, w] tokens, -1 behind a text.
        items: int64[b, m] codes, ``n_items`` behind them.
        end: the token.

    Returns:
        int64[b, l] tokens, -1 behind them; int64[b, m], the place of the end behind each item,
        the last one's where there is no item.
    """
    lengths = (texts >= 0).sum(1)
    table = F.pad(texts.long(), (0, 1), value=-1)
    table[torch.arange(len(texts), device=texts.device), lengths] = end
    table = F.pad(table, (0, 0, 0, 1), value=-1)
    ends = F.pad(lengths + 1, (0, 1))[items].cumsum(1)
    row = F.pad(table[items].flatten(1), (1, 0), value=end)
    order = torch.argsort((row < 0).to(torch.int8), dim=1, stable=True)
    return row.gather(1, order)[:, : int(ends.max()) + 1 if ends.numel() else 1], ends
