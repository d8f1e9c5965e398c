"""BERT4Rec: histories read in both directions, trained to fill in what is masked."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from onoma.dataset import Split
from onoma.neural.batching import SequenceBatches
from onoma.neural.blocks import CausalBlock, Trunk
from onoma.neural.device import autocast, device
from onoma.neural.noise import Dropout
from onoma.neural.trainer import Task
from onoma.recommenders.sequential.identity import IdModule, IdRecommender, IdSettings
from onoma.recommenders.transformer import NextItem, TransformerRecommender, even


class BERT4RecSettings(IdSettings):
    """The trunk and the cloze.

    Attributes:
        masked: probability that a place is masked in training.
        last: share of the training rows that mask their last place alone, as in answering.
    """

    masked: float = Field(default=0.3, gt=0, lt=1)
    last: float = Field(default=0.2, ge=0, le=1)


class BidirectionalTrunk(Trunk):
    """Blocks that see every place of a row; positions count from the end."""

    def __init__(self, module: IdModule) -> None:
        super().__init__()
        s = module.settings
        self.positions = nn.Parameter(torch.randn(s.length + 1, s.width) * 0.02)
        self.input_dropout = Dropout(s.input_dropout, module.noise)
        self.blocks = nn.ModuleList(
            CausalBlock(s.width, s.heads, 4, s.dropout, module.noise) for _ in range(s.blocks)
        )
        self.norm = nn.LayerNorm(s.width)
        self.head = nn.Linear(s.width, s.width)

    def forward(self, items: Tensor, lengths: Tensor | None = None) -> Tensor:
        """float[b, l, d] item vectors, int64[b] of them in use (None: all), to float[b, l, d]."""
        b, width, _ = items.shape
        place = torch.arange(width, device=items.device)
        if lengths is None:
            lengths = torch.full((b,), width, device=items.device)
        back = (lengths[:, None] - 1 - place).clamp(min=0)
        visible = (place < lengths[:, None])[:, None, None, :]
        x = self.input_dropout(items + self.positions[back])
        for block in self.blocks:
            x = block(x, visible)
        return F.gelu(self.head(self.norm(x)))


class BERT4RecModule(IdModule):
    """Bidirectional blocks over item vectors, one more of which stands for what is masked."""

    def trunk(self) -> Trunk:
        """The blocks; the mask's vector is made here, too."""
        self.mask = nn.Parameter(torch.randn(self.settings.width) * 0.02)
        return BidirectionalTrunk(self)

    def filled(self, vectors: Tensor, hidden: Tensor, lengths: Tensor) -> Tensor:
        """float[b, l, d] states where bool[b, l] places are hidden behind the mask's vector."""
        shown = torch.where(hidden[:, :, None], self.mask.to(vectors.dtype), vectors)
        out: Tensor = self.encoder(shown, lengths)
        return out

    def asked(self, vectors: Tensor, ends: Tensor) -> Tensor:
        """float[b, d]: the state of a mask put behind int64[b] last places."""
        place = torch.arange(vectors.shape[1] + 1, device=vectors.device)
        hidden = place == ends[:, None] + 1
        states = self.filled(F.pad(vectors, (0, 0, 0, 1)), hidden, ends + 2)
        return states[torch.arange(len(ends), device=ends.device), ends + 1]

    def last(self, items: Tensor, ends: Tensor, table: Tensor) -> Tensor:
        """int64[b, l] item codes to float[b, d], what follows int64[b] places."""
        return self.asked(F.embedding(items, table), ends)


class BERT4Rec(IdRecommender):
    """Sequential recommendation with a bidirectional transformer (Sun et al., CIKM 2019).

    Departs from the paper: pre-norm blocks, positions counted from the end (the paper pads on the
    left, which comes to the same), masks drawn anew every epoch in place of ten stored copies, and
    cosine logits by default.
    """

    name = "bert4rec"
    settings_type = BERT4RecSettings
    module_type = BERT4RecModule
    module: BERT4RecModule

    def _task(self, split: Split) -> Task:
        return _Cloze(self, split)

    def score_entry(self, vectors: Tensor, lengths: NDArray[np.int64]) -> Tensor:
        """float32[n, n_items]: the logits of a mask behind the vectors."""
        self.module.eval()
        ends = torch.from_numpy(lengths - 1).to(vectors.device)
        return self.answer(self.module.asked(vectors, ends).float())


class _Cloze(NextItem):
    """Masked places predict what they hide."""

    owner: BERT4Rec

    def __init__(self, owner: TransformerRecommender, split: Split) -> None:
        super().__init__(owner, split)
        # Windows hold one item more than an input: the place of the mask in answering.
        self.batches = SequenceBatches(split.train, owner.train.batch_tokens, owner.settings.length)

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        module, where = self.owner.module, device()
        settings = module.settings
        assert isinstance(settings, BERT4RecSettings)
        rows = self.batches.windows.take(batch)
        items = torch.from_numpy(rows.padded(fill=module.n_items)).to(where)
        lengths = torch.from_numpy(rows.lengths).to(where)
        place = torch.arange(items.shape[1], device=where)
        drawn = module.noise.uniform(items.numel()).view(items.shape).to(where)
        only_last = module.noise.uniform(len(items)).to(where) < settings.last
        hidden = (drawn < settings.masked) & (place < lengths[:, None])
        at_end = place == lengths[:, None] - 1
        # A row without a mask would teach nothing.
        bare = only_last | ~hidden.any(1)
        hidden = torch.where(bare[:, None], at_end, hidden)
        table = module.table()
        with autocast(where.type):
            states = module.filled(F.embedding(items, table), hidden, lengths)
        return module.loss(*even(states[hidden].float(), items[hidden]), table)
