"""Continuations behind a prefix of vectors, where a prompt is not of words alone."""

from __future__ import annotations

import torch
from torch import Tensor

from onoma.language.tokentree import STEP, Row


class SoftRow(Row):
    """A row whose prefix is given as what enters the model, for :func:`..tokentree.weigh`."""

    def place(self, inputs: Tensor) -> None:
        """Put a prefix of vectors into the row, in place of what was there.

        Args:
            inputs: float[l, d], at least one, words and others alike.
        """
        self.clear()
        self._crop(0)
        for begin in range(0, len(inputs), STEP):
            part = inputs[begin : begin + STEP]
            places = torch.arange(begin, begin + len(part))
            mask = torch.arange(begin + len(part))[None, :] <= places[:, None]
            out = self.network.base_model(
                inputs_embeds=part[None],
                position_ids=places[None].to(self.device),
                attention_mask=mask[None, None].to(self.device),
                past_key_values=self.cache,
                use_cache=True,
            )
            self.end = out.last_hidden_state[0, -1]
        self.tokens = [-1] * len(inputs)  # none of a vocabulary
