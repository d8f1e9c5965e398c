"""OneRec, the supervised part: pathways of several scales in, a session of names out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset, Ragged
from onoma.indexing import ItemIndex
from onoma.neural.beam import beam_search
from onoma.neural.device import autocast, device
from onoma.neural.seq2seq import Encoded, Resumed, padding
from onoma.neural.t5 import Attention, Encoder, Norm
from onoma.neural.trainer import TrainSettings
from onoma.recommenders.base import Ranking, Requests, top_k
from onoma.recommenders.generative.seq2seq import (
    Seq2SeqModule,
    Seq2SeqRecommender,
    Seq2SeqSettings,
)
from onoma.recommenders.generative.tiger import user_tokens

_TOGETHER = 64  # users whose sessions grow side by side


class OneRecSettings(Seq2SeqSettings):
    """Pathways and sessions.

    Attributes:
        users: tokens that users are hashed to, the static pathway.
        lifelong: items of a history that the long pathway reads; ``length`` are the short one's.
        queries: vectors that the long pathway is compressed to.
        session: items that follow and are said one after the other in training.
    """

    users: int = Field(default=2000, ge=1)
    lifelong: int = Field(default=200, ge=1)
    queries: int = Field(default=16, ge=1)
    session: int = Field(default=4, ge=1)


class Pathway(nn.Module):
    """Two layers that bring the items of a pathway to the encoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same."""
        out: Tensor = self.leave(F.leaky_relu(self.enter(x)))
        return out


class OneRecModule(Seq2SeqModule):
    """An item is the sum of its codes' vectors, one position: user, long pathway, short pathway.

    Attributes:
        token: int64[n_users], each user's token.
    """

    token: Tensor
    settings: OneRecSettings

    def __init__(
        self, index: ItemIndex, token: NDArray[np.int64], settings: OneRecSettings
    ) -> None:
        super().__init__(index, settings)
        width = settings.width
        self.register_buffer("token", torch.from_numpy(token))
        # The last row is a stranger's.
        self.users = nn.Parameter(torch.randn(settings.users + 1, width))
        self.asks = nn.Parameter(torch.randn(1, settings.queries, width))
        self.before, self.after = Norm(width), Norm(width)
        self.compress = Attention(width, settings.heads, settings.head_width)
        self.long, self.short = Pathway(width), Pathway(width)
        self.encoder = Encoder(
            width, settings.layers, settings.heads, settings.head_width, settings.inner,
            settings.dropout, self.noise,
        )  # fmt: skip

    def read(self, items: Tensor, lengths: Tensor, users: Tensor) -> Encoded:
        """A twentieth of the users read as strangers while the model trains."""
        b, width = items.shape
        vectors = F.embedding(self.rows[items], self.decoder.vocabulary).sum(2)
        strange = users < 0
        if self.training:
            strange = strange | (self.noise.uniform(b).to(users.device) < 0.05)
        who = torch.where(strange, len(self.users) - 1, self.token[users.clamp(min=0)])
        keys, values = self.compress.keys(self.before(self.long(vectors)))
        queries = self.compress.project(self.after(self.asks), 0, 1)[0]
        hidden = padding(lengths, width)
        long = self.compress.mix(queries.expand(b, -1, -1, -1), keys, values, hidden)
        # The last items of each row, still left aligned.
        short = lengths.clamp(max=self.settings.length)
        at = torch.arange(int(short.max()), device=items.device) + (lengths - short)[:, None]
        recent = self.short(vectors).gather(
            1, at.clamp(max=width - 1)[:, :, None].expand(-1, -1, vectors.shape[2])
        )
        x = torch.cat([F.embedding(who, self.users)[:, None], self.asks + long, recent], dim=1)
        lengths = 1 + self.settings.queries + short
        return Encoded(self.encoder(x, padding(lengths, x.shape[1])), lengths)

    def positions(self, items: int) -> int:
        return 1 + self.settings.queries + min(items, self.settings.length) + items // 4


class OneRec(Seq2SeqRecommender):
    """Session-wise generation (Deng et al., OneRec, 2025; Technical Report, 2025, section 2).

    The supervised model: an encoder over a static, a long and a short pathway, a decoder that says
    the items of a session one after the other, names of balanced residual k-means.

    Modes:
        generate: the beam over the first item of the session.
        session: a list said item by item, each knowing those before it; scores are the running
            log-probabilities of the whole.
    """

    name = "onerec"
    modes = ("generate", "session")

    def __init__(
        self,
        *,
        train: TrainSettings | dict[str, Any] | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        quiet: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(train=train, seed=seed, folder=folder, quiet=quiet, **settings)
        self.following = self.settings.session

    settings_type = OneRecSettings
    settings: OneRecSettings
    module: OneRecModule

    @property
    def history(self) -> int:
        """What the longer pathway reads."""
        return max(self.settings.lifelong, self.settings.length)

    def _module(self, dataset: Dataset, vectors: NDArray[np.float32]) -> OneRecModule:
        assert self.index is not None
        ids = [str(name) for name in dataset.users["user_id"]]
        token = user_tokens(ids, self.settings.users)
        return OneRecModule(self.index, token, self.settings)

    def _recommend(self, requests: Requests, k: int, mode: str) -> Ranking:
        if mode != "session":
            return super()._recommend(requests, k, mode)
        shape = (len(requests), k)
        items, scores = np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32)
        beams, barred = self.beams(requests, k), self.barred(requests)
        for beam in np.unique(beams):
            alike = np.flatnonzero(beams == beam)
            for start in range(0, len(alike), _TOGETHER):
                rows = alike[start : start + _TOGETHER]
                users = None if requests.users is None else requests.users[rows]
                items[rows], scores[rows] = self._session(
                    requests.history.take(rows), users, barred.take(rows), k, int(beam)
                )
        return Ranking(items, scores)

    @torch.no_grad()
    def _session(
        self, history: Ragged, users: NDArray[np.int32] | None, barred: Ragged, k: int, beam: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """int32[n, k] items and float32[n, k] scores; the beam passes over what was said, too."""
        assert self.index is not None
        decoder, n = self.module.decoder, len(history)
        items, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
        total = np.zeros(n, np.float32)
        with autocast(device().type):
            context = self.encode(history, users)
            state = decoder.begin(context)
            for place in range(min(k, self.index.n_items)):
                found, logp = beam_search(
                    Resumed(decoder, state), context, self.index.trie, beam,
                    batch=n, without=barred,
                )  # fmt: skip
                best = top_k(logp.cpu(), 1, items=found.cpu())
                total = total + best.scores[:, 0]
                items[:, place], scores[:, place] = best.items[:, 0], total
                said = np.flatnonzero(items[:, place] >= 0)
                barred = barred.concat(Ragged.from_groups(said, items[said, place], n))
                heard = self.module.codes[torch.from_numpy(items[:, place].astype(np.int64))]
                state = decoder.hear(state, heard.to(context.device))
        return items, scores
