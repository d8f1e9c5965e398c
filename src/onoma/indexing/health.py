"""How good the names are: collisions, use of every vocabulary, balance of the prefixes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma.indexing.paths import without_counters
from onoma.indexing.trie import check_codes, name_order, prefix_starts

if TYPE_CHECKING:
    from rich.table import Table

    from onoma.indexing.index import ItemIndex


@dataclass(frozen=True)
class LevelHealth:
    """One level of the names.

    Attributes:
        size: vocabulary.
        used: codes that some name has here.
        utilisation: ``used / size``.
        entropy: bits of the distribution of items over codes (of those whose name gets here).
        evenness: ``entropy / log2(size)``: 1 when every code names equally many items.
        ended: items whose name ended before this level.
        prefixes: different prefixes up to and with this level.
        largest: items under the largest of them.
        mean: items under a prefix, on average.
        balance: entropy of items over prefixes by its maximum, log2(prefixes); 1 is even.
        branching: codes that follow a prefix of the level before, on average.
        widest: the most codes that follow one.
    """

    size: int
    used: int
    utilisation: float
    entropy: float
    evenness: float
    ended: int
    prefixes: int
    largest: int
    mean: float
    balance: float
    branching: float
    widest: int


@dataclass(frozen=True)
class Collisions:
    """Items that share a name.

    Attributes:
        items: items whose name another item has too.
        share: of all items.
        names: different names.
        largest: items with the most common name.
    """

    items: int
    share: float
    names: int
    largest: int


@dataclass(frozen=True)
class Health:
    """The report on an index.

    Attributes:
        method: the way of naming.
        n_items: number of names.
        before: collisions without the code that tells equals apart, wherever in a name it stands
            (equal to ``after`` where none is).
        after: collisions of the whole names; an index that decodes has none.
        levels: one entry a level.
    """

    method: str
    n_items: int
    before: Collisions
    after: Collisions
    levels: tuple[LevelHealth, ...]

    @classmethod
    def of(cls, index: ItemIndex) -> Health:
        """Measure an index: one sort, then counts."""
        check_codes(index.codes, index.sizes)
        n = index.n_items
        names = index.codes[name_order(index.codes, index.sizes)]
        fresh = prefix_starts(names)
        levels = []
        groups = np.full(min(n, 1), n)
        starts = np.zeros(min(n, 1), dtype=np.int64)
        for level, size in enumerate(index.sizes):
            below = np.flatnonzero(fresh[:, level])
            groups = np.diff(np.append(below, n))
            column = names[:, level]
            counts = np.bincount(column[column >= 0], minlength=size)
            # An end is a child of its prefix, not a code: it does not count as branching.
            real = below[column[below] >= 0]
            follow = np.bincount(np.searchsorted(starts, real, side="right") - 1)
            follow = follow[follow > 0]
            entropy, spread = _entropy(counts), _entropy(groups)
            levels.append(
                LevelHealth(
                    size=int(size),
                    used=int((counts > 0).sum()),
                    utilisation=float((counts > 0).mean()),
                    entropy=entropy,
                    evenness=entropy / np.log2(size) if size > 1 else 1.0,
                    ended=int((column < 0).sum()),
                    prefixes=len(below),
                    largest=int(groups.max(initial=0)),
                    mean=n / max(len(below), 1),
                    balance=spread / float(np.log2(len(below))) if len(below) > 1 else 1.0,
                    branching=float(follow.mean()) if len(follow) else 0.0,
                    widest=int(follow.max(initial=0)),
                )
            )
            starts = below
        after = _collisions(groups)
        paths, sizes = without_counters(index)
        bounds = np.flatnonzero(prefix_starts(paths[name_order(paths, sizes)])[:, -1])
        before = _collisions(np.diff(np.append(bounds, n)))
        return cls(index.method, n, before, after, tuple(levels))

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)

    def table(self) -> Table:
        """For the terminal."""
        from rich.table import Table

        caption = (
            f"{self.before.items:,} of {self.n_items:,} items ({self.before.share:.1%}) share a "
            f"name before disambiguation (largest group {self.before.largest:,}); "
            f"{self.after.items:,} after"
        )
        table = Table(title=f"Names by {self.method}", caption=caption)
        heads = ("level", "codes used", "entropy", "evenness", "prefixes", "items a prefix",
                 "largest", "balance", "branching")  # fmt: skip
        for head in heads:
            table.add_column(head, justify="right")
        for number, level in enumerate(self.levels, start=1):
            table.add_row(
                str(number),
                f"{level.used:,} / {level.size:,}",
                f"{level.entropy:.2f} bits",
                f"{level.evenness:.3f}",
                f"{level.prefixes:,}",
                f"{level.mean:,.1f}",
                f"{level.largest:,}",
                f"{level.balance:.3f}",
                f"{level.branching:.1f} (max {level.widest:,})",
            )
        return table


def _entropy(counts: NDArray[np.integer]) -> float:
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(share * np.log2(share)).sum()) + 0.0


def _collisions(groups: NDArray[np.integer]) -> Collisions:
    shared = int(groups[groups > 1].sum())
    return Collisions(
        shared, shared / max(int(groups.sum()), 1), len(groups), int(groups.max(initial=0))
    )
