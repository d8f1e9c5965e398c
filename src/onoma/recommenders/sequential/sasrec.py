"""SASRec with a softmax over the whole catalogue at every position."""

from __future__ import annotations

from onoma.neural.blocks import Trunk
from onoma.recommenders.sequential.identity import IdModule, IdRecommender


class SASRecModule(IdModule):
    """Causal transformer blocks."""

    def trunk(self) -> Trunk:
        """Blocks with learned absolute positions."""
        return self.sequence_encoder()


class SASRec(IdRecommender):
    """Self-attentive sequential recommendation (Kang and McAuley, ICDM 2018), trained well.

    The published model's binary loss with one negative loses to the same network under a softmax
    over the catalogue by a wide margin (Klenitskiy and Vasilev, RecSys 2023); this is the latter.
    """

    name = "sasrec"
    module_type = SASRecModule
