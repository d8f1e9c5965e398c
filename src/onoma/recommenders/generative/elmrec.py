"""ELMRec: the vectors that mark which tokens belong together carry the graph of the log."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Dataset, Split
from onoma.encoding.cooccurrence import interactions
from onoma.indexing import ItemIndex
from onoma.neural.seq2seq import Encoded, padding
from onoma.recommenders.generative.seq2seq import Seq2SeqModule
from onoma.recommenders.generative.tiger import Tiger, TigerModule, TigerSettings, user_tokens


class ELMRecSettings(TigerSettings):
    """What is added to every token of a name.

    Attributes:
        whole: ``graph`` vectors of user and item, ``ordinal`` ones of the item's place in the
            history, or ``none``.
        hops: propagations of the graph vectors; with 0 they are random.
        weight: of what is added, whose first root mean square is 1.
    """

    whole: Literal["graph", "ordinal", "none"] = "graph"
    hops: int = Field(default=4, ge=0)
    weight: float = Field(default=1.0, ge=0)


class ELMRecModule(TigerModule):
    """TIGER's tokens plus one whole-word vector for all tokens of a name.

    Attributes:
        of_users: float32[n_users, d], the graph's vectors.
        of_items: float32[n_items + 1, d], the last row pads.
    """

    settings: ELMRecSettings
    of_users: Tensor
    of_items: Tensor

    def __init__(
        self, index: ItemIndex, token: NDArray[np.int64], settings: ELMRecSettings
    ) -> None:
        super().__init__(index, token, settings)
        width = settings.width
        if settings.whole == "graph":
            self.register_buffer("of_users", torch.zeros(len(token), width))
            self.register_buffer("of_items", torch.zeros(index.n_items + 1, width))
        else:
            self.places = nn.Parameter(torch.randn(settings.length, width))

    def read(self, items: Tensor, lengths: Tensor, users: Tensor) -> Encoded:
        """A stranger has no vector of the graph."""
        settings, depth = self.settings, self.rows.shape[1]
        codes = F.embedding(self.rows[items].flatten(1), self.decoder.vocabulary)
        strangers = (users < 0)[:, None]
        who = F.embedding(self.token[users.clamp(min=0)], self.users)
        who = torch.where(strangers, self.crowd @ self.users, who)
        if settings.whole == "graph":
            known = self.of_users[users.clamp(min=0)].masked_fill(strangers, 0)
            who = who + settings.weight * known
            whole = F.embedding(items, self.of_items)
            codes = codes + settings.weight * whole.repeat_interleave(depth, dim=1)
        elif settings.whole == "ordinal":
            whole = self.places[: items.shape[1]].repeat_interleave(depth, dim=0)
            codes = codes + settings.weight * whole
        x = torch.cat([who[:, None], codes], dim=1)
        lengths = 1 + lengths * depth
        return Encoded(self.encoder(x, padding(lengths, x.shape[1])), lengths)


def graph_vectors(
    split: Split, width: int, hops: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random vectors smoothed along ``split.train``, the mean over the walks of every length.

    Args:
        split: only ``train`` is read.
        width: of the vectors.
        hops: longest walk, in steps between users and items.
        seed: of the vectors.

    Returns:
        float32[n_users, width] and float32[n_items, width], root mean square 1 together.
    """
    held = interactions(split.train, split.dataset.n_items)
    rng, n = np.random.default_rng(seed), held.shape[0]
    now = rng.standard_normal((n + held.shape[1], width)).astype(np.float32)
    roots = [1 / np.sqrt(np.maximum(held.sum(axis=axis), 1)) for axis in (1, 0)]
    across = sp.csr_array(sp.diags_array(roots[0]) @ held @ sp.diags_array(roots[1]))
    across = across.astype(np.float32)
    total = now.copy()
    for _ in range(hops):
        now = np.concatenate([across @ now[n:], across.T @ now[:n]])
        total += now
    total /= np.sqrt(np.mean(np.square(total)))
    return total[:n], total[n:]


class ELMRec(Tiger):
    """Graph-aware whole-word vectors (Wang et al., ELMRec, EMNLP 2024), over TIGER's tokens.

    All tokens of a user or an item share one vector that says which they belong to. Here it is a
    random vector smoothed along the graph of training interactions, so tokens also tell who is
    near whom over several hops, without training a graph model. Items of the history are left out
    of the answer and the beam is wider by their number, which is the paper's re-ranking.

    Modes: as for :class:`onoma.recommenders.generative.tiger.Tiger`.
    """

    name = "elmrec"
    settings_type = ELMRecSettings
    settings: ELMRecSettings
    module: ELMRecModule

    def _build(self, split: Split) -> Seq2SeqModule:
        module = super()._build(split)
        assert isinstance(module, ELMRecModule)
        if self.settings.whole == "graph":
            users, items = graph_vectors(split, self.settings.width, self.settings.hops, self.seed)
            module.of_users.copy_(torch.from_numpy(users))
            module.of_items[:-1] = torch.from_numpy(items)
        return module

    def _module(self, dataset: Dataset, vectors: NDArray[np.float32]) -> ELMRecModule:
        assert self.index is not None
        ids = [str(name) for name in dataset.users["user_id"]]
        return ELMRecModule(self.index, user_tokens(ids, self.settings.users), self.settings)

    def _with_items(
        self, codes: NDArray[np.int32], catalogue: pl.DataFrame, items: pl.DataFrame
    ) -> Self:
        """New items have no company in the graph: a vector of zeros."""
        more = super()._with_items(codes, catalogue, items)
        if self.settings.whole != "graph":
            return more
        old = self.module.of_items
        rows = torch.cat([old[:-1], torch.zeros_like(old[: len(codes)]), old[-1:]])
        return more._with_tensors({"of_items": rows}, more.module.n_items)
