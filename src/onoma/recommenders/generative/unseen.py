"""How a speller reaches items that no training sequence holds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Ragged
from onoma.indexing import ItemIndex
from onoma.indexing.trie import name_order, prefix_starts
from onoma.recommenders.base import Ranking, top_k

_MOST = 32  # unseen items that one item brings along


class UnseenItems:
    """Every unseen item stands beside the seen ones that share the longest prefix with it.

    A model gives names that it never spelled next to no probability. TIGER (Rajput et al., 2023,
    section 4.3) lets a predicted item bring along the unseen ones with the same codes before the
    last; here the longest prefix that any seen item shares will do, so that few are out of reach.

    Args:
        index: the names.
        seen: bool[n_items], whether training holds the item.
    """

    def __init__(self, index: ItemIndex, seen: NDArray[np.bool_]) -> None:
        n = index.n_items
        order = name_order(index.codes, index.sizes)
        fresh = prefix_starts(index.codes[order])
        left = ~seen  # unseen items that have no company yet
        hosts, guests, shared = [], [], []
        for level in reversed(range(index.depth)):
            group = np.empty(n, dtype=np.int64)
            group[order] = np.cumsum(fresh[:, level]) - 1
            company = np.bincount(group[seen], minlength=group.max(initial=0) + 1) > 0
            now = np.flatnonzero(left & company[group])
            members = order[np.isin(group[order], group[now]) & seen[order]]
            # order keeps groups together, so the hosts of a guest are one run of members.
            start = np.searchsorted(group[members], group[now])
            count = np.searchsorted(group[members], group[now], side="right") - start
            at = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            hosts.append(members[np.repeat(start, count) + at])
            guests.append(np.repeat(now, count))
            shared.append(np.full(count.sum(), level + 1))
            left[now] = False
        host, guest = np.concatenate(hosts), np.concatenate(guests)
        missing = index.depth - np.concatenate(shared)
        keep = np.lexsort((guest, missing, host))
        host, guest, missing = host[keep], guest[keep], missing[keep]
        place = np.arange(len(host)) - np.searchsorted(host, host)
        host, guest, missing, place = (x[place < _MOST] for x in (host, guest, missing, place))
        width = int(place.max(initial=-1)) + 1
        table = np.full((n, width), -1, dtype=np.int64)
        behind = np.zeros((n, width), dtype=np.float32)
        table[host, place], behind[host, place] = guest, missing
        self.seen = torch.from_numpy(seen)
        self.beside, self.behind = torch.from_numpy(table), torch.from_numpy(behind)

    def join(
        self, items: Tensor, scores: Tensor, k: int, share: float, forbidden: Ragged
    ) -> Ranking:
        """The best seen items, every ``1 / share``-th place left to an unseen one.

        An unseen item counts as its best neighbour in the beam, less one nat a code that the two
        do not share. A shorter list is the beginning of a longer one.

        Args:
            items: int64[n, b] of the beam, -1 where there are no more.
            scores: float32[n, b], their log-probabilities.
            k: answers a row.
            share: of the list, at most.
            forbidden: n rows of item codes to leave out.
        """
        real = items >= 0
        known = real & self.seen[items.clamp(min=0)]
        best = top_k(
            scores.masked_fill(~known, -torch.inf), k, forbidden=forbidden,
            items=items.masked_fill(~known, -1),
        )  # fmt: skip
        room = int(share * k + 1e-9)
        if not room or not self.beside.shape[1]:
            return best
        beside = self.beside[items.clamp(min=0)].masked_fill(~known[..., None], -1)
        worth = scores[..., None] - self.behind[items.clamp(min=0)]
        said = real & ~known  # unseen items that the beam found by itself
        guests = top_k(
            torch.cat([worth.flatten(1), scores.masked_fill(~said, -torch.inf)], 1), room,
            items=torch.cat([beside.flatten(1), items.masked_fill(~said, -1)], 1),
            forbidden=forbidden,
        )  # fmt: skip
        here = guests.items >= 0
        places = np.ceil(np.arange(1, room + 1) / share - 1e-9).astype(np.int64) - 1
        guest = np.zeros((len(items), k), dtype=bool)
        guest[:, places] = here
        # Seen items take the other places in order; what finds no place comes after all.
        order = np.argsort(guest, axis=1, kind="stable")
        late = np.arange(k) >= (~guest).sum(axis=1, keepdims=True)
        keys = np.concatenate(
            [
                np.where((best.items < 0) | late, 2 * k, order),
                np.where(here, places, 2 * k),
            ],
            axis=1,
        )
        order = np.argsort(keys, axis=1, kind="stable")[:, :k]
        found = np.concatenate([best.items, guests.items], axis=1)
        values = np.concatenate([best.scores, np.full_like(guests.scores, np.nan)], axis=1)
        found, values = (np.take_along_axis(x, order, axis=1) for x in (found, values))
        void = np.take_along_axis(keys, order, axis=1) == 2 * k
        found[void], values[void] = -1, -np.inf
        return Ranking(found, _between(values))


def _between(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that fall, with the middle of its neighbours for every NaN."""
    before, after = values.copy(), values.copy()
    for column in range(1, values.shape[1]):
        gap = np.isnan(before[:, column])
        before[gap, column] = before[gap, column - 1]
        column = -1 - column
        gap = np.isnan(after[:, column])
        after[gap, column] = after[gap, column + 1]
    before = np.where(np.isnan(before), after, before)  # nothing seen comes first
    after = np.where(np.isnan(after) | np.isinf(after), before - 1, after)
    middle = np.nan_to_num((before + after) / 2, nan=0.0)
    return np.where(np.isnan(values), middle, values).astype(np.float32)
