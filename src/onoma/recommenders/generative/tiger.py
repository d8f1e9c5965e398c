"""TIGER: an encoder-decoder that reads the names of a history and spells the next one."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset
from onoma.indexing import ItemIndex
from onoma.neural.seq2seq import Encoded, padding
from onoma.neural.t5 import Encoder
from onoma.recommenders.generative.seq2seq import (
    Seq2SeqModule,
    Seq2SeqRecommender,
    Seq2SeqSettings,
)


class TigerSettings(Seq2SeqSettings):
    """Sizes; the defaults are the published ones at 4.5 million parameters.

    Attributes:
        users: tokens that users are hashed to.
    """

    users: int = Field(default=2000, ge=1)


class TigerModule(Seq2SeqModule):
    """A user's token, then the codes of every item of the history, one token each.

    Attributes:
        token: int64[n_users], each user's token.
        crowd: float32[tokens], the share of users with it.
    """

    token: Tensor
    crowd: Tensor

    def __init__(self, index: ItemIndex, token: NDArray[np.int64], settings: TigerSettings) -> None:
        super().__init__(index, settings)
        crowd = np.bincount(token, minlength=settings.users) / max(1, len(token))
        self.register_buffer("token", torch.from_numpy(token))
        self.register_buffer("crowd", torch.from_numpy(crowd.astype(np.float32)), persistent=False)
        self.users = nn.Parameter(torch.randn(settings.users, settings.width))
        self.encoder = Encoder(
            settings.width, settings.layers, settings.heads, settings.head_width, settings.inner,
            settings.dropout, self.noise,
        )  # fmt: skip

    def read(self, items: Tensor, lengths: Tensor, users: Tensor) -> Encoded:
        """A stranger reads as the mean of all users."""
        codes = F.embedding(self.rows[items].flatten(1), self.decoder.vocabulary)
        who = F.embedding(self.token[users.clamp(min=0)], self.users)
        strangers = users < 0
        if bool(strangers.any()):
            who = torch.where(strangers[:, None], self.crowd @ self.users, who)
        x = torch.cat([who[:, None], codes], dim=1)
        lengths = 1 + lengths * self.rows.shape[1]
        return Encoded(self.encoder(x, padding(lengths, x.shape[1])), lengths)

    def positions(self, items: int) -> int:
        return 1 + items * self.rows.shape[1]


def user_tokens(ids: list[str], tokens: int) -> NDArray[np.int64]:
    """int64[n], a token below ``tokens`` for each of the owner's user ids; always the same."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    hashed = np.frombuffer(b"".join(digests), dtype=np.uint64)
    return (hashed % np.uint64(tokens)).astype(np.int64)


class Tiger(Seq2SeqRecommender):
    """Generative retrieval (Rajput et al., TIGER, NeurIPS 2023, sections 3.2 and 4).

    Where it departs from the paper: a step's softmax is over the codes of its own level, training
    is AdamW with a cosine instead of inverse square root, attention weights have no dropout, and
    unseen items stand beside any seen item with the longest common prefix.

    Modes:
        generate: the beam; ``unseen`` is the paper's epsilon.
        sample: names drawn at ``temperature``, for diverse lists.
    """

    name = "tiger"

    settings_type = TigerSettings
    settings: TigerSettings

    def _module(self, dataset: Dataset, vectors: NDArray[np.float32]) -> TigerModule:
        assert self.index is not None
        ids = [str(name) for name in dataset.users["user_id"]]
        token = user_tokens(ids, self.settings.users)
        return TigerModule(self.index, token, self.settings)
