"""What a language model offers to a text recommender."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from onoma.neural.beam import Speller
from onoma.recommenders.generative.naming import NamesModule


class TextModule(NamesModule):
    """A language model that reads questions and says answers."""

    @abstractmethod
    def read(self, tokens: Tensor, words: Tensor, lengths: Tensor) -> Any:
        """What answers go on from: has a length, a device and slices.

        Args:
            tokens: int64[n, l], left aligned.
            words: int64[n, l], the word of each token, from 1.
            lengths: int64[n], tokens in use.
        """

    @abstractmethod
    def answers(self, context: Any, tokens: Tensor) -> Tensor:
        """float[n, l, vocabulary] logits at each place of int64[n, l], true tokens before.

        Negative tokens stand for nothing.
        """

    @abstractmethod
    def speller(self) -> Speller:
        """Says tokens one by one."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The configuration, JSON values only."""

    def share(self) -> None:
        """Parameters that are one under two names are saved once; called when all are made."""
        self._twice = _shared(self)
        self.register_state_dict_post_hook(_drop_shared)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_shared)  # type: ignore[no-untyped-call]

    def loss(self, context: Any, tokens: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens of the answers, int64[n, l], -1 behind them."""
        logits = self.answers(context, tokens)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), tokens.flatten(), ignore_index=-1
        )


def _shared(module: nn.Module) -> dict[str, str]:
    """Names of parameters that are the same as one named before, and that name."""
    first: dict[int, str] = {}
    twice = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        if first.setdefault(id(value), name) != name:
            twice[name] = first[id(value)]
    return twice


def _drop_shared(module: TextModule, weights: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in module._twice:
        weights.pop(prefix + name, None)


def _fill_shared(module: TextModule, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, first in module._twice.items():
        if prefix + first in weights:
            weights[prefix + name] = weights[prefix + first]
