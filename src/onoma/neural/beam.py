"""Beam search over the names of a catalogue: nothing outside it can be said.

The score of a name is the sum of the model's own log-probabilities of its codes, each normalised
over the whole vocabulary of its level; the trie is laid over them afterwards, so forbidden codes
keep the probability that the model wasted on them. The end of a shorter name costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from onoma.dataset import Ragged
from onoma.indexing.trie import Level, Trie

_CELLS = 1 << 20  # logits of a step: small enough for the second-level cache, large enough for BLAS
_CACHED = 1 << 17  # floats whose passes follow each other within the second-level cache
_GROUPS = (16, 8, 4)


class Speller(Protocol):
    """A model that says names code by code. Its state is its own business."""

    def begin(self, context: Any) -> Any:
        """The state before the first code, from what the model read for n users."""

    def step(self, state: Any, level: int, codes: Tensor | None) -> tuple[Tensor, Any]:
        """Read the codes of the level before, answer logits over this level's vocabulary.

        Args:
            state: as returned before.
            level: which code is asked for.
            codes: int64[n, b], the last codes; None at level 0, where b is 1. A beam whose
                name has ended brings code 0; what is answered for it is not used.

        Returns:
            float[n, b, size of the level] logits, and the state.
        """

    def reorder(self, state: Any, parents: Tensor) -> Any:
        """The state of beams int64[n, b'], each a column of the beams before."""


@torch.no_grad()
def beam_search(
    speller: Speller,
    context: Any,
    trie: Trie,
    beam: int,
    *,
    batch: int | None = None,
    without: Ragged | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``beam`` most probable names of each row, as far as a beam of that width finds them.

    Args:
        speller: the model.
        context: what the speller begins with, on the device of the trie: float[n, d], or anything
            with a length, slices and a device.
        trie: the names.
        beam: width, at least the number of items wanted.
        batch: users at a time; by default as many as keep a step in the cache.
        without: n rows of items to pass over, as if they had no names, so that they take no place
            in the beam.

    Returns:
        int64[n, beam] items, best first, equals by lower item, -1 where there are no more;
        float32[n, beam] natural log-probabilities, -inf there.

    Raises:
        ValueError: a beam below one.
    """
    if beam < 1:
        raise ValueError(f"beam is {beam}; it must be at least 1")
    if batch is None:
        batch = max(1, _CELLS // (min(beam, max(trie.n_items, 1)) * max(trie.sizes)))
        batch = max(batch, 16)
    items = torch.full((len(context), beam), -1, dtype=torch.int64, device=context.device)
    logp = torch.full((len(context), beam), -torch.inf, device=context.device)
    if not trie.n_items:
        return items, logp
    for start in range(0, len(context), batch):
        some = context[start : start + batch]
        gone = None if without is None else barred(trie, without.slice(start, start + len(some)))
        found, scores = _search(speller, some, trie, beam, gone)
        items[start : start + batch, : found.shape[1]] = found
        logp[start : start + batch, : found.shape[1]] = scores
    return items, logp


def barred(trie: Trie, without: Ragged) -> list[Tensor]:
    """The prefixes of which nothing is left.

    Args:
        trie: the names.
        without: n rows of items.

    Returns:
        For each level, sorted int64 keys ``row * (children + 1) + child``; see :func:`among`.
    """
    where, last = trie.items.device, trie.n_items
    place = torch.empty(last, dtype=torch.int64, device=where)
    place[trie.items[:-1]] = torch.arange(last, device=where)
    rows, items = (torch.from_numpy(x).to(where) for x in (without.rows(), without.values))
    keys, out = torch.unique(rows * (last + 1) + place[items.long()]), []
    for level in reversed(trie.levels):
        out.append(keys)
        row, child = keys // (level.children + 1), keys % (level.children + 1)
        above = level.nodes + 1
        keys, gone = torch.unique(row * above + level.parents()[child], return_counts=True)
        keys = keys[gone == level.first.diff()[keys % above]]
    return out[::-1]


def among(keys: Tensor, gone: Tensor) -> Tensor:
    """bool, which int64 keys are among sorted ones."""
    if not len(gone):
        return torch.zeros_like(keys, dtype=torch.bool)
    return gone[torch.searchsorted(gone, keys).clamp_(max=len(gone) - 1)] == keys


def _search(
    speller: Speller, context: Any, trie: Trie, beam: int, gone: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor]:
    n = len(context)
    state = speller.begin(context)
    nodes = torch.zeros(n, 1, dtype=torch.int64, device=context.device)
    scores = torch.zeros(n, 1, device=context.device)
    codes = None
    for number, level in enumerate(trie.levels):
        logits, state = speller.step(state, number, codes)
        bar = None if gone is None else gone[number]
        scores, parents, codes, nodes = extend(level, logits, scores, nodes, beam, bar)
        if number + 1 < trie.depth:
            state = speller.reorder(state, parents)
    items = trie.items[nodes].masked_fill_(scores == -torch.inf, -1)
    by_item = items.argsort(dim=1)
    order = by_item.gather(
        1, scores.gather(1, by_item).argsort(dim=1, descending=True, stable=True)
    )
    return items.gather(1, order), scores.gather(1, order)


def extend(
    level: Level,
    logits: Tensor,
    scores: Tensor,
    nodes: Tensor,
    beam: int,
    gone: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of the search: the best allowed continuations of all beams.

    Args:
        level: of the trie.
        logits: float[n, b, size].
        scores: float32[n, b], -inf for dead beams.
        nodes: int64[n, b].
        beam: most beams to keep.
        gone: of :func:`barred`, what not to go on to.

    Returns:
        Of the kept beams, best first: float32[n, b'] scores, int64[n, b'] parents (columns of
        the beams before), int64[n, b'] codes, int64[n, b'] nodes of the next level.
    """
    if level.penalty is None:
        return _extend_listed(level, logits, scores, nodes, beam, gone)
    # Many codes are allowed: mask the whole vocabulary.
    logp = torch.log_softmax(logits.float(), dim=-1)
    n, b, size = logp.shape
    total = level.mask_(logp.add_(scores[:, :, None]), nodes)
    if gone is not None:
        assert level.next is not None
        users = torch.arange(n, device=nodes.device)[:, None, None]
        keys = users * (level.children + 1) + level.next[nodes]
        total.masked_fill_(among(keys, gone), -torch.inf)
    scores, at = largest(total.view(n, b * size), min(beam, b * size))
    parents = at // size
    codes = at - parents * size
    # Where the score is -inf the table leads to the dead node by itself, but for what is gone.
    nodes = level.follow(nodes.gather(1, parents), codes)
    if gone is not None:
        nodes = nodes.masked_fill_(scores == -torch.inf, level.children)
    return scores, parents, codes, nodes


def _extend_listed(
    level: Level, logits: Tensor, scores: Tensor, nodes: Tensor, beam: int, gone: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Few codes allowed: list them all, one row of candidates a user as long as the longest."""
    n, b, size = logits.shape
    rows, children, codes = level.children_of(nodes.reshape(-1))
    if not len(rows):  # only dead beams
        none = torch.zeros(n, 1, dtype=torch.int64, device=nodes.device)
        return none.float() - torch.inf, none, none, none + level.children
    if level.ends:
        ended = codes == size
        codes = codes.masked_fill(ended, 0)
    cells = rows if logits.numel() < 1 << 31 else rows.long()
    said = logits.reshape(n * b, size)
    total = said.view(-1).index_select(0, cells * size + codes).float()
    total -= log_mass(said).index_select(0, rows)
    if level.ends:
        total.masked_fill_(ended, 0)  # an end is certain
    total += scores.reshape(-1).index_select(0, rows)
    users = rows // b
    if gone is not None:
        keys = users.long() * (level.children + 1) + children
        total.masked_fill_(among(keys, gone), -torch.inf)
    count = torch.bincount(users, minlength=n)
    start = count.cumsum(0) - count
    width = int(count.max())
    shift = torch.arange(n, device=rows.device) * width - start
    place = shift.index_select(0, users).add_(torch.arange(len(rows), device=rows.device))
    table = torch.full((n * width,), -torch.inf, device=logits.device)
    table[place] = total
    scores, at = largest(table.view(n, width), min(beam, width))
    dead = scores == -torch.inf
    pick = (at + start[:, None]).clamp_(max=len(rows) - 1)
    return (
        scores,
        (rows[pick] % b).long().masked_fill_(dead, 0),
        codes[pick].long().masked_fill_(dead, 0),
        children[pick].long().masked_fill_(dead, level.children),
    )


def log_mass(logits: Tensor) -> Tensor:
    """float32[m], the log of the summed exponentials of each row of float[m, size] logits."""
    if logits.device.type != "cpu":
        return logits.float().logsumexp(1)
    # A few rows at a time: as floats, all of a wide level's would not stay in the cache.
    some = torch.split(logits, max(1, _CACHED // logits.shape[1]))
    return torch.cat([rows.float().logsumexp(1) for rows in some])


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row, sorted; ``topk`` in two rounds where rows are long.

    The k largest lie within the k groups with the largest maxima, and maxima over strided groups
    are a vectorised pass, so the costly selection sees a sixteenth of the row.
    """
    n, width = values.shape
    groups = next((g for g in _GROUPS if width % g == 0 and width >= 4 * g * k), 0)
    if not groups:
        return values.topk(k, dim=1)
    stride = width // groups
    columns = values.view(n, groups, stride).amax(dim=1).topk(k, dim=1, sorted=False).indices
    offsets = torch.arange(groups, device=values.device)[:, None] * stride
    at = (columns[:, None, :] + offsets).view(n, groups * k)
    scores, which = values.gather(1, at).topk(k, dim=1)
    return scores, at.gather(1, which)


def exhaustive(speller: Speller, context: Any, trie: Trie, *, batch: int = 16) -> Tensor:
    """The log-probability of every name, the oracle of :func:`beam_search`.

    Walks all prefixes level by level; for small catalogues (n x prefixes x size floats).
    Differentiable in ``context``.

    Args:
        speller: the model.
        context: as for :func:`beam_search`.
        trie: the names.
        batch: users at a time.

    Returns:
        float32[n, n_items], by item.
    """
    scores = [
        _all_names(speller, context[start : start + batch], trie)
        for start in range(0, len(context), batch)
    ]
    return torch.cat(scores) if scores else torch.zeros(0, trie.n_items, device=context.device)


def _all_names(speller: Speller, context: Any, trie: Trie) -> Tensor:
    n = len(context)
    state = speller.begin(context)
    scores = torch.zeros(n, 1, device=context.device)
    codes = None
    for number, level in enumerate(trie.levels):
        logits, state = speller.step(state, number, codes)
        logp = torch.log_softmax(logits.float(), dim=-1)
        parents, below = level.parents(), level.codes[:-1]
        ended = below == level.size
        last = below.masked_fill(ended, 0)
        scores = scores[:, parents] + logp[:, parents, last].masked_fill(ended, 0.0)
        if number + 1 < trie.depth:
            codes = last.expand(n, -1)
            state = speller.reorder(state, parents.expand(n, -1))
    out = torch.empty(n, trie.n_items, device=context.device)
    out[:, trie.items[:-1]] = scores
    return out
