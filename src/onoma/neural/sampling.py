"""Names drawn without replacement from a speller's own distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onoma.dataset import Ragged
from onoma.indexing.trie import Trie
from onoma.neural.beam import Speller, among, barred


@torch.no_grad()
def sample_names(
    speller: Speller,
    context: Any,
    trie: Trie,
    k: int,
    keys: Tensor,
    temperature: float,
    *,
    without: Ragged | None = None,
) -> tuple[Tensor, Tensor]:
    """Stochastic beam search (Kool et al., ICML 2019): k names, none twice.

    The noise of a name is a function of its row's key and of its codes, so a row draws the same
    whatever its batch holds.

    Args:
        speller: the model.
        context: as for :func:`onoma.neural.beam.beam_search`.
        trie: the names.
        k: names a row.
        keys: int64[n].
        temperature: of every code's distribution among those that the trie allows.
        without: as for :func:`onoma.neural.beam.beam_search`.

    Returns:
        int64[n, k] items, -1 where there are no more; float32[n, k] perturbed log-probabilities,
        falling, -inf there.
    """
    n = len(context)
    items = torch.full((n, k), -1, dtype=torch.int64, device=keys.device)
    scores = torch.full((n, k), -torch.inf, device=keys.device)
    for start in range(0, n, 64):
        rows = slice(start, min(start + 64, n))
        gone = None if without is None else barred(trie, without.slice(rows.start, rows.stop))
        found, drawn = _draw(speller, context[rows], trie, k, keys[rows], temperature, gone)
        items[rows, : found.shape[1]], scores[rows, : found.shape[1]] = found, drawn
    return items, scores


def _draw(
    speller: Speller,
    context: Any,
    trie: Trie,
    k: int,
    keys: Tensor,
    temperature: float,
    gone: Sequence[Tensor] | None,
) -> tuple[Tensor, Tensor]:
    n = len(context)
    state = speller.begin(context)
    nodes = torch.zeros(n, 1, dtype=torch.int64, device=keys.device)
    logp = torch.zeros(n, 1, dtype=torch.float64, device=keys.device)
    noisy, keys, codes = torch.zeros_like(logp), keys[:, None], None
    for number, level in enumerate(trie.levels):
        logits, state = speller.step(state, number, codes)
        allowed = trie.allowed(number, nodes)
        if gone is not None:
            every = torch.arange(level.size + 1, device=keys.device).expand(allowed.shape)
            below = trie.advance(number, nodes[:, :, None].expand(allowed.shape), every)
            users = torch.arange(n, device=keys.device)[:, None, None]
            allowed &= ~among(users * (level.children + 1) + below, gone[number])
        wide = torch.nn.functional.pad(logits.double() / temperature, (0, 1), value=0.0)
        wide = wide.masked_fill(~allowed, -torch.inf).log_softmax(-1)
        wide = wide.masked_fill(~allowed, -torch.inf)  # where nothing is allowed it says NaN
        total = wide + logp[:, :, None]
        below = _mix(keys[:, :, None] * 31 + torch.arange(1, level.size + 2, device=keys.device))
        fresh = total - (-_uniform(below).log()).log()
        # Children of a name share its noise: theirs is conditioned on having it as their maximum.
        peak = fresh.amax(-1, keepdim=True)
        parent = noisy[:, :, None]
        gap = parent - fresh + torch.log1p(-(fresh - peak).exp().clamp(max=1))
        held = parent - gap.clamp(min=0) - torch.log1p((-gap.abs()).exp())
        held = held.masked_fill(total == -torch.inf, -torch.inf)
        size = level.size + 1
        noisy, at = held.flatten(1).topk(min(k, held[0].numel()), dim=1)
        parents, codes = at // size, at % size
        dead = noisy == -torch.inf
        logp = total.flatten(1).gather(1, at)
        keys = below.flatten(1).gather(1, at)
        nodes = trie.advance(number, nodes.gather(1, parents), codes)
        nodes = nodes.masked_fill(dead, level.children)
        codes = codes.masked_fill(dead | (codes == level.size), 0)
        if number + 1 < trie.depth:
            state = speller.reorder(state, parents)
    return trie.items[nodes].masked_fill(noisy == -torch.inf, -1), noisy.float()


def _mix(x: Tensor) -> Tensor:
    """int64 to well spread int64 (the finaliser of SplitMix64: Steele et al., OOPSLA 2014)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _uniform(x: Tensor) -> Tensor:
    """float64 between 0 and 1, neither included."""
    return (((x >> 12) & 0xFFFFFFFFFFFFF).double() + 0.5) / 2**52
