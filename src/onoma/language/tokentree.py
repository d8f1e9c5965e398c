"""Many continuations of one prompt in one pass: their tokens as a tree behind a shared prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STEP = 1024  # tokens of a pass at most: keeps masks and logits of a pass small


class Row:
    """The keys and values of one prefix and of a tree of tokens that grows behind it.

    There is one row, whatever the number of branches: a node attends to the prefix and to its own
    ancestors, so nothing is ever copied for a branch or put in another order. A new prefix keeps
    what it shares with the last one.

    Args:
        network: a causal model of transformers that takes a mask of four dimensions.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        from transformers import DynamicCache

        self.network = network
        self.cache = DynamicCache(config=network.config)
        self.tokens: list[int] = []
        self.end = torch.zeros(0)  # float[d], the state at the prefix's last token
        self._seen = torch.zeros((0, 0), dtype=torch.bool)  # who is whose ancestor or self
        self._depth = torch.zeros(0, dtype=torch.long)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.network.device

    def start(self, tokens: Sequence[int]) -> int:
        """Put another prefix into the row and drop all branches.

        Args:
            tokens: at least one.

        Returns:
            How many of them were there already.
        """
        self.clear()
        tokens = list(tokens)
        shared = common(self.tokens, tokens)
        if shared == len(tokens) == len(self.tokens):
            return shared
        shared = min(shared, len(tokens) - 1)  # the last state is wanted
        self._crop(shared)
        del self.tokens[shared:]
        for begin in range(shared, len(tokens), STEP):
            part = tokens[begin : begin + STEP]
            places = torch.arange(begin, begin + len(part))
            mask = torch.arange(begin + len(part))[None, :] <= places[:, None]
            self.end = self._forward(torch.tensor(part), places, mask)[-1]
            self.tokens += part
        return shared

    def clear(self) -> None:
        """Drop all branches."""
        if len(self._depth):
            self._crop(len(self.tokens))
            self._seen = torch.zeros((0, 0), dtype=torch.bool)
            self._depth = torch.zeros(0, dtype=torch.long)

    def grow(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Add nodes to the tree.

        Args:
            tokens: int64[m].
            parents: int64[m], number of the parent node in the order of growing, -1 for the
                prefix; may name nodes of this very call that stand before.

        Returns:
            float[m, d], the states of the nodes.
        """
        before, m, prefix = len(self._depth), len(tokens), len(self.tokens)
        seen = torch.zeros((before + m, before + m), dtype=torch.bool)
        seen[:before, :before] = self._seen
        depth = torch.cat([self._depth, torch.zeros(m, dtype=torch.long)])
        for place, parent in enumerate(parents.tolist(), start=before):
            if parent >= 0:
                seen[place] = seen[parent]
                depth[place] = depth[parent] + 1
            seen[place, place] = True
        states = []
        for begin in range(before, before + m, STEP):
            end = min(begin + STEP, before + m)
            mask = torch.cat(
                [torch.ones((end - begin, prefix), dtype=torch.bool), seen[begin:end, :end]], dim=1
            )
            part = tokens[begin - before : end - before]
            states.append(self._forward(part, prefix + depth[begin:end], mask))
        self._seen, self._depth = seen, depth
        return torch.cat(states) if states else torch.zeros((0, self.network.config.hidden_size))

    def logits(self, states: Tensor) -> Tensor:
        """float32[m, vocabulary] of states float[m, d]."""
        head = self.network.get_output_embeddings()
        return head(states.to(self.device)).float()

    def _forward(self, tokens: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        device = self.device
        out = self.network.base_model(
            input_ids=tokens[None].to(device),
            position_ids=places[None].to(device),
            attention_mask=mask[None, None].to(device),
            past_key_values=self.cache,
            use_cache=True,
        )
        states: Tensor = out.last_hidden_state[0]
        return states

    def _crop(self, length: int) -> None:
        surplus = self.cache.get_seq_length() - length
        if surplus > 0:
            self.cache.crop(-surplus)


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))


def weigh(row: Row, tails: Sequence[Sequence[int]], counted: Sequence[int]) -> NDArray[np.float64]:
    """Log-probabilities of continuations of the row's prefix.

    Continuations that begin alike share those tokens; the last token of one is only read off, so
    the model sees no more tokens than the tree has inner nodes. Chunks of the tree are forgotten
    again, so any number of continuations takes little memory.

    Args:
        row: with its prefix in place.
        tails: n sequences of at least one token.
        counted: n numbers: the first tokens of a tail that are not counted.

    Returns:
        float64[n], sums over the counted tokens.
    """
    out = np.zeros(len(tails))
    order = sorted(range(len(tails)), key=lambda place: list(tails[place]))
    begin = 0
    while begin < len(order):
        end, nodes = begin, 0
        while end < len(order) and (end == begin or nodes + len(tails[order[end]]) <= STEP):
            nodes += len(tails[order[end]])
            end += 1
        chunk = order[begin:end]
        out[chunk] = _weigh_chunk(row, [tails[p] for p in chunk], [counted[p] for p in chunk])
        begin = end
    return out


def _weigh_chunk(
    row: Row, tails: Sequence[Sequence[int]], counted: Sequence[int]
) -> NDArray[np.float64]:
    inner: dict[tuple[int, int], int] = {}  # (parent, token) -> node
    tokens: list[int] = []
    parents: list[int] = []
    # Edges to read: which state says what of which token, and whose sum it belongs to.
    where: list[int] = []
    what: list[int] = []
    whose: list[int] = []
    for name, (tail, skipped) in enumerate(zip(tails, counted, strict=True)):
        node = -1
        for place, token in enumerate(tail):
            if place >= skipped:
                where.append(node + 1)
                what.append(token)
                whose.append(name)
            if place + 1 < len(tail):
                key = (node, token)
                if key not in inner:
                    inner[key] = len(tokens)
                    tokens.append(token)
                    parents.append(node)
                node = inner[key]
    states = row.grow(torch.tensor(tokens, dtype=torch.long), torch.tensor(parents))
    states = torch.cat([row.end[None], states.to(row.end.dtype)])
    found = torch.zeros(len(where), dtype=torch.float64)
    places, asked = torch.tensor(where), torch.tensor(what)
    for begin in range(0, len(states), 256):  # logits are vocabulary wide
        inside = (places >= begin) & (places < begin + 256)
        if bool(inside.any()):
            logits = row.logits(states[begin : begin + 256])
            said = torch.log_softmax(logits, dim=-1)
            found[inside] = said[places[inside] - begin, asked[inside]].double().cpu()
    row.clear()
    sums: NDArray[np.float64] = np.zeros(len(tails))
    np.add.at(sums, whose, found.numpy())
    return sums


def search(row: Row, names: Sequence[Sequence[int]], k: int, beam: int) -> list[int]:
    """The likeliest of many continuations, by beam search over the tree of their tokens.

    Args:
        row: with its prefix in place.
        names: n distinct sequences, none the beginning of another (an end token sees to that).
        k: how many are wanted.
        beam: prefixes that are kept at every length, at least k.

    Returns:
        At most k rows of ``names``, likeliest first; equal ones in the order of their rows.
    """
    children: list[dict[int, int]] = [{}]
    leaf: dict[int, int] = {}
    for place, name in enumerate(names):
        at = 0
        for token in name:
            at = children[at].setdefault(token, len(children))
            if at == len(children):
                children.append({})
        leaf[at] = place
    done: list[tuple[float, int]] = []
    # (score, node of the tree of names, node of the row)
    front: list[tuple[float, int, int]] = [(0.0, 0, -1)]
    states, grown = row.end[None], 0
    while front:
        said = torch.log_softmax(row.logits(states), dim=-1).cpu()
        steps: list[tuple[float, int, int, int]] = []
        for line, (score, at, node) in enumerate(front):
            below = children[at]
            gains = said[line, torch.tensor(list(below))].tolist()
            steps += [
                (score + gain, to, node, token)
                for gain, (token, to) in zip(gains, below.items(), strict=True)
            ]
        steps.sort(key=lambda step: (-step[0], step[1]))
        done += [(score, leaf[to]) for score, to, _, _ in steps if to in leaf]
        done = sorted(done, key=lambda pair: (-pair[0], pair[1]))[:k]
        worst = done[-1][0] if len(done) == k else -np.inf
        # A prefix can only lose: one that is behind k finished names is of no use.
        kept = [step for step in steps if step[1] not in leaf and step[0] > worst][:beam]
        if not kept:
            break
        states = row.grow(
            torch.tensor([token for _, _, _, token in kept]),
            torch.tensor([node for _, _, node, _ in kept]),
        )
        front = [(step[0], step[1], grown + place) for place, step in enumerate(kept)]
        grown += len(kept)
    row.clear()
    return [place for _, place in done]
