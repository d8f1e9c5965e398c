"""GRU4Rec: a recurrent network over item ids."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onoma.neural.blocks import Trunk
from onoma.neural.noise import Dropout
from onoma.recommenders.sequential.identity import (
    HeadlessSettings,
    IdModule,
    IdRecommender,
    IdSettings,
)


class GRUTrunk(Trunk):
    """``blocks`` gated recurrent layers, then a projection."""

    def __init__(self, settings: IdSettings, module: IdModule) -> None:
        super().__init__()
        self.input_dropout = Dropout(settings.input_dropout, module.noise)
        self.dropout = Dropout(settings.dropout, module.noise)
        self.layers = nn.GRU(settings.width, settings.width, settings.blocks, batch_first=True)
        self.project = nn.Linear(settings.width, settings.width)

    def forward(self, items: Tensor) -> Tensor:
        """float[b, l, d] to the same."""
        # Recurrence in bf16 loses what it should remember, and gains no time at these widths.
        with torch.autocast(items.device.type, enabled=False):
            states, _ = self.layers(self.input_dropout(items.float()))
            out: Tensor = self.project(self.dropout(states))
        return out


class GRUModule(IdModule):
    """Recurrent layers over item vectors."""

    def trunk(self) -> Trunk:
        """The layers."""
        return GRUTrunk(self.settings, self)


class GRU4Rec(IdRecommender):
    """Session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016; 2018).

    Departs from the papers: user-parallel batches over whole histories in place of
    session-parallel ones. ``loss: bpr-max`` with ``popularity: 0.5`` is the second paper's;
    the default is the full softmax. ``heads`` is not read.
    """

    name = "gru"
    settings_type = HeadlessSettings
    module_type = GRUModule
