"""SASRec with contextual positions in place of learned absolute ones."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from onoma.neural.blocks import Trunk
from onoma.neural.cape import CAPEBlock
from onoma.recommenders.sequential.identity import IdModule, IdRecommender, IdSettings


class CAPESettings(IdSettings):
    """The trunk and its positions.

    Attributes:
        steps: entries of each block's position table.
    """

    steps: int = Field(default=32, ge=2)


class CAPEModule(IdModule):
    """Causal blocks without absolute positions."""

    def trunk(self) -> Trunk:
        """Blocks whose attention counts unlike items as steps."""
        assert isinstance(self.settings, CAPESettings)
        block = partial(CAPEBlock, steps=self.settings.steps)
        return self.sequence_encoder(block=block, positions=False)


class CAPE(IdRecommender):
    """A contextual-aware position encoding for sequential recommendation, on SASRec.

    No other position enters, so that what it gains is its own.
    """

    name = "cape"
    settings_type = CAPESettings
    module_type = CAPEModule

    @property
    def rows(self) -> int:
        """Few where histories are long: the attention of a whole batch is held at once."""
        return max(1, min(512, (1 << 22) // self.settings.length**2))
