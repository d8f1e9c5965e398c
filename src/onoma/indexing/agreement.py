"""What the names know of the items: vectors, categories, co-purchases and next steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from onoma.encoding.cooccurrence import interactions
from onoma.indexing.trie import check_codes, name_order, prefix_starts

if TYPE_CHECKING:
    from rich.table import Table

    from onoma.dataset import Dataset, Split
    from onoma.indexing.index import ItemIndex

TAGS = ("categories", "genres", "tags")
_FEWEST_PAIRS = 20  # a ratio over fewer is noise


@dataclass(frozen=True)
class LevelAgreement:
    """What a prefix of this length tells of an item.

    The last three are ratios to the value expected when the same names are dealt to the items at
    random: 1 is chance. None where fewer than 20 pairs of items share a prefix or nothing is known
    of them.

    Attributes:
        prefixes: different ones.
        explained: share of the variance of the item vectors between prefixes, from 0 to 1.
        beyond_chance: the same, less what as many groups of random items would explain
            (adjusted R squared); 0 is chance.
        alike: likeness of the categories of two items of one prefix (cosine, rare ones weigh
            more).
        bought: of two training items of one user, how often they share the prefix.
        follows: how often a validation target shares the prefix of the item before it.
    """

    prefixes: int
    explained: float | None
    beyond_chance: float | None
    alike: float | None
    bought: float | None
    follows: float | None


@dataclass(frozen=True)
class Agreement:
    """The part of the health report that needs the data.

    Attributes:
        levels: one entry a level.
        error: squared error of the vectors that the names themselves stand for, by the variance
            of the item vectors; None where a name stands for no vector.
    """

    levels: tuple[LevelAgreement, ...]
    error: float | None

    @classmethod
    def of(cls, index: ItemIndex, split: Split, vectors: NDArray[np.float32] | None) -> Agreement:
        """Measure names against the data that they name; test interactions are not read.

        Args:
            index: the names.
            split: the data.
            vectors: float32[n_items, dim] that the items were named by; zero rows, of which
                nothing is known, do not count. None leaves the first two measures out.
        """
        tags, bought = tag_rows(split.dataset), purchase_rows(split)
        steps = next_steps(split)
        points = None if vectors is None else np.asarray(vectors, dtype=np.float32)
        levels = []
        for group in prefix_groups(index):
            sizes = np.bincount(group)
            explained = beyond = None
            if points is not None:
                explained, beyond = explained_variance(points, group)
            levels.append(
                LevelAgreement(
                    len(sizes),
                    explained,
                    beyond,
                    None if tags is None else pair_ratio(tags[0], group),
                    pair_ratio(bought, group),
                    _step_ratio(steps, group, sizes),
                )
            )
        said = None if points is None else index.reconstruct()
        error = None if said is None or points is None else reconstruction_error(points, said)
        return cls(tuple(levels), error)

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)

    def table(self) -> Table:
        """For the terminal."""
        from rich.table import Table

        caption = "ratios to names dealt at random: 1 is chance"
        if self.error is not None:
            caption += f"; reconstruction error {self.error:.3f} of the variance"
        table = Table(title="What a prefix tells", caption=caption)
        heads = ("level", "variance explained", "beyond chance", "like categories",
                 "bought together", "next item")  # fmt: skip
        for head in heads:
            table.add_column(head, justify="right")
        for number, level in enumerate(self.levels, start=1):
            shares = (level.explained, level.beyond_chance)
            ratios = (level.alike, level.bought, level.follows)
            table.add_row(
                str(number),
                *("–" if share is None else f"{share:.1%}" for share in shares),
                *("–" if ratio is None else f"{ratio:.1f}x" for ratio in ratios),
            )
        return table


def prefix_groups(index: ItemIndex) -> list[NDArray[np.int64]]:
    """For each length, int64[n_items] the number of the prefix under which an item stands."""
    check_codes(index.codes, index.sizes)
    order = name_order(index.codes, index.sizes)
    fresh = prefix_starts(index.codes[order])
    groups = []
    for level in range(index.depth):
        group = np.empty(index.n_items, dtype=np.int64)
        group[order] = np.cumsum(fresh[:, level]) - 1
        groups.append(group)
    return groups


def explained_variance(
    vectors: NDArray[np.float32], group: NDArray[np.integer]
) -> tuple[float | None, float | None]:
    """Variance between groups by all variance, plain and adjusted for the number of groups.

    Args:
        vectors: float32[n, dim]; zero rows do not count.
        group: int[n].

    Returns:
        Two shares; None where all vectors are equal, and for the second where no two vectors
        share a group.
    """
    known = vectors.any(axis=1)
    points, group = vectors[known].astype(np.float64), group[known]
    points -= points.mean(axis=0) if len(points) else 0
    total = float(np.square(points).sum())
    if total <= 1e-12:
        return None, None
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sums = np.add.reduceat(points[order], starts, axis=0)
    count = np.diff(np.append(starts, len(order)))
    share = float((np.square(sums).sum(axis=1) / count).sum()) / total
    n, groups = len(points), len(starts)
    return share, 1 - (1 - share) * (n - 1) / (n - groups) if groups < n else None


def reconstruction_error(vectors: NDArray[np.float32], said: NDArray[np.float32]) -> float | None:
    """Squared error by variance, over rows that are not zero; None without any variance."""
    known = vectors.any(axis=1)
    points = vectors[known].astype(np.float64)
    total = float(np.square(points - points.mean(axis=0)).sum()) if len(points) else 0.0
    return float(np.square(points - said[known]).sum()) / total if total > 1e-12 else None


def pair_ratio(rows: sp.csr_array, group: NDArray[np.integer]) -> float | None:
    """Mean product of two rows of one group by the mean product of any two rows.

    Args:
        rows: float[n, features], not negative; empty rows do not count.
        group: int[n].

    Returns:
        None where fewer than 20 pairs share a group, or no two rows have a feature in common.
    """
    known = np.diff(rows.indptr) > 0
    rows, group = rows[known], group[known]
    n = len(group)
    each = float(np.square(rows.data).sum())
    everywhere = float(np.square(rows.sum(axis=0)).sum()) - each
    sizes = np.bincount(group).astype(np.float64)
    pairs = float((sizes * (sizes - 1)).sum())
    if pairs < 2 * _FEWEST_PAIRS or everywhere <= 1e-9 * max(each, 1e-12):
        return None
    member = sp.csr_array((np.ones(n), (group, np.arange(n))), shape=(len(sizes), n))
    inside = float(np.square((member @ rows).data).sum()) - each
    return max(inside, 0.0) / pairs / (everywhere / (n * (n - 1)))


def tag_rows(dataset: Dataset) -> tuple[sp.csr_array, list[str]] | None:
    """The categories of the items, without those that all items have.

    Returns:
        float64[n_items, tags], unit rows in which a tag weighs the log of its rarity, and the
        tags; None where the catalogue has none.

    Reads the first of ``categories``, ``genres`` and ``tags`` that the catalogue has, lists or
    texts parted by ``|``.
    """
    column = next((name for name in TAGS if name in dataset.items.columns), None)
    if column is None:
        return None
    listed = pl.col(column)
    if not isinstance(dataset.items.schema[column], pl.List):
        listed = listed.cast(pl.String).str.split("|")
    pairs = (
        dataset.items.select(listed.cast(pl.List(pl.String)).alias("tag"))
        .with_row_index("item")
        .explode("tag")
        .with_columns(pl.col("tag").str.strip_chars())
        .filter(pl.col("tag").is_not_null() & (pl.col("tag") != ""))
        .unique(maintain_order=True)
    )
    if not pairs.height:
        return None
    count = pairs["item"].n_unique()
    rarity = (count / pl.len().over("tag")).log()
    pairs = (
        pairs.with_columns(rarity.alias("weight"))
        .filter(pl.col("weight") > 0)
        .with_columns((pl.col("tag").rank("dense") - 1).alias("column"))
    )
    if not pairs.height:
        return None
    item, weight = pairs["item"].to_numpy().astype(np.int64), pairs["weight"].to_numpy()
    length = np.sqrt(np.bincount(item, weight**2, minlength=dataset.n_items))
    at = (item, pairs["column"].to_numpy().astype(np.int64))
    names = pairs["tag"].unique().sort().to_list()
    shape = (dataset.n_items, len(names))
    return sp.csr_array(sp.coo_array((weight / length[item], at), shape=shape)), names


def purchase_rows(split: Split) -> sp.csr_array:
    """float64[n_items, users] of the training log.

    The product of two rows counts the users with both items, each by one over the number of
    others that the user has, so that long histories do not outweigh all others.
    """
    log = interactions(split.train, split.dataset.n_items).astype(np.float64)
    others = np.diff(log.indptr) - 1.0
    scale = np.where(others > 0, 1 / np.sqrt(np.maximum(others, 1)), 0)
    weighted = sp.csr_array(sp.diags_array(scale) @ log)
    weighted.eliminate_zeros()
    return sp.csr_array(weighted.T)


def next_steps(split: Split) -> NDArray[np.int64]:
    """int64[steps, 2], the last known item and the first target of the validation cases."""
    cases = split.valid
    rows = np.flatnonzero((cases.history.lengths > 0) & (cases.targets.lengths > 0))
    last = cases.history.values[cases.history.offsets[rows + 1] - 1]
    steps = np.stack([last, cases.targets.values[cases.targets.offsets[rows]]], axis=1)
    return steps[steps[:, 0] != steps[:, 1]].astype(np.int64)


def _step_ratio(
    steps: NDArray[np.int64], group: NDArray[np.int64], sizes: NDArray[np.int64]
) -> float | None:
    n = len(group)
    pairs = float((sizes * (sizes - 1.0)).sum())
    if not len(steps) or pairs < 2 * _FEWEST_PAIRS:
        return None
    return float((group[steps[:, 0]] == group[steps[:, 1]]).mean()) / (pairs / (n * (n - 1)))
