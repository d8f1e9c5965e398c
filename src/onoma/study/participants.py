"""People with few preferences, in items and in words, simulated from a log with ratings.

The design of Sanner, Balog, Radlinski, Wedin and Dixon, RecSys 2023: five liked and five disliked
items, a text of each, and ratings of items of four pools.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onoma.dataset import Dataset, Ragged, Split, split
from onoma.encoding.bm25 import BM25
from onoma.encoding.text import item_texts
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.ease import EASE
from onoma.recommenders.language.tastes import Tastes

POOLS = ("popular", "mid-popular", "ease", "bm25")
LIKED, DISLIKED = 4.0, 2.0  # stars from which on, and up to which
_EACH, _OF_POOL, _LEAST = 5, 10, 5
_FUSED = 3  # texts of an item whose scores are added up


@dataclass(frozen=True)
class Participant:
    """One person.

    Attributes:
        user: code.
        likes: a text of what is liked.
        dislikes: a text of what is not.
        liked: int32[5] item codes.
        disliked: int32[at most 5].
        told: int32[m], all items that the texts were written from.
        items: int32[n] that are ranked, of all pools.
        pool: int[n], the place in ``POOLS`` of each.
        ratings: float32[n], 1 to 5.
        seen: bool[n], rated before the preferences were told; the others were rated later.
    """

    user: int
    likes: str
    dislikes: str
    liked: NDArray[np.int32]
    disliked: NDArray[np.int32]
    told: NDArray[np.int32]
    items: NDArray[np.int32]
    pool: NDArray[np.int64]
    ratings: NDArray[np.float32]
    seen: NDArray[np.bool_]


class Fusion:
    """BM25 over several texts of each item, the best few scores added up (late fusion).

    An item's texts are the sentences of its description and each of its other fields: there are no
    reviews of films here, which the paper searches.
    """

    def __init__(self, items: pl.DataFrame) -> None:
        said = item_texts(items, ("description",))
        texts, rows = [], []
        for row, text in enumerate(said):
            for part in [part for part in text.split(". ") if part]:
                texts.append(part)
                rows.append(row)
        for name in ("title", "categories", "genres", "tags", "cast", "director", "keywords"):
            for row, text in enumerate(item_texts(items, (name,))):
                if text:
                    texts.append(text)
                    rows.append(row)
        self._n, self._bm25 = items.height, BM25(texts)
        self._rows = np.array(rows, dtype=np.int64)

    def scores(self, query: str) -> NDArray[np.float32]:
        """float32[n_items]."""
        found = self._bm25.scores(query)
        order = np.lexsort((-found, self._rows))
        rows = self._rows[order]
        first = np.searchsorted(rows, rows)
        kept = order[np.arange(len(rows)) - first < _FUSED]
        return np.bincount(self._rows[kept], found[kept], self._n).astype(np.float32)


@dataclass(frozen=True)
class World:
    """What is known without the participants.

    Attributes:
        dataset: all of it; only its catalogue is read.
        parts: liked events of the others.
        ease: fitted on them.
        fusion: over the catalogue.
    """

    dataset: Dataset
    parts: Split
    ease: EASE
    fusion: Fusion


def simulate(
    dataset: Dataset,
    count: int,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[list[Participant], World]:
    """Participants, and the world without them.

    A user's ratings are cut in the middle of their time. Half of the items before are what the
    preferences are told from: the best five, the worst five, and both texts, which name no title.
    All others, the second half and those after the cut, may be ranked, so nothing that is ranked
    was read by the texts. Pools hold at most ten items each and none twice: drawn among the popular
    (the most rated tenth of the catalogue), drawn among the next fifth, the best by EASE given the
    five liked items, the best by BM25 given the text.

    Ratings of what somebody never watched are not simulated: all pools are of rated items, and
    ``seen`` are those that were rated before the cut.

    Args:
        dataset: a log with ratings.
        count: people at most; fewer where not enough users have five items in each pool.
        seed: of everything that is drawn.
        tell: called with a line when the world is fitted.

    Raises:
        OnomaError: no ratings, or nobody has enough of them.
    """
    log = dataset.interactions
    if "rating" not in log.columns or log["rating"].null_count() == log.height:
        raise OnomaError("the interactions have no ratings", where=dataset.name,
                         fix="Use data with ratings, such as movielens-100k")  # fmt: skip
    log = log.filter(pl.col("rating").is_not_null()).with_row_index("row")
    log = log.unique(["user", "item"], keep="last", maintain_order=True)
    rated = log.group_by("user").len().filter(pl.col("len") >= 60).sort("user")
    draw = np.random.default_rng(seed)
    able = draw.permutation(rated["user"].to_numpy())
    # Some turn out to lack a pool: twice as many leave the world.
    held = able[: 2 * count]
    rest = log.drop("row").filter(
        ~pl.col("user").is_in(held.tolist()) & (pl.col("rating") >= LIKED)
    )
    if not rest.height or not len(held):
        raise OnomaError("too few users with 60 ratings", where=dataset.name)
    others = replace(dataset, interactions=rest)  # codes stay as they are
    parts = split(others, "leave-one-out")
    world = World(dataset, parts, EASE().fit(parts), Fusion(dataset.items))
    tell(f"EASE fitted on {others.n_interactions} liked events of users who do not take part")
    tastes = Tastes(dataset.items)
    people = []
    for user in held.tolist():
        own = log.filter(pl.col("user") == user).sort("timestamp", "row")
        one = _participant(own, world, tastes, np.random.default_rng([seed, user]))
        if one is not None:
            people.append(one)
        if len(people) == count:
            break
    if not people:
        raise OnomaError("nobody has five rated items in each pool", where=dataset.name)
    return people, world


def _participant(
    own: pl.DataFrame, world: World, tastes: Tastes, draw: np.random.Generator
) -> Participant | None:
    items = own["item"].to_numpy().astype(np.int32)
    stars = own["rating"].to_numpy().astype(np.float32)
    half = len(items) // 2
    order = draw.permutation(half)
    told, seen = order[: half // 2], order[half // 2 :]
    good = told[np.argsort(-stars[told], kind="stable")]
    good = good[stars[good] >= LIKED]
    bad = told[np.argsort(stars[told], kind="stable")]
    bad = bad[stars[bad] <= DISLIKED]
    if len(good) < _EACH:
        return None
    liked = items[good[:_EACH]]
    likes, dislikes = tastes.say(items[good]), tastes.say(items[bad], "dislike")
    if not likes:
        return None
    open_ = np.concatenate([seen, np.arange(half, len(items))])
    pools = _pools(items[open_], liked, likes, world, draw)
    if min(map(len, pools)) < _LEAST:
        return None
    chosen = np.concatenate(pools)
    return Participant(
        user=int(own["user"][0]),
        likes=likes,
        dislikes=dislikes,
        liked=liked,
        disliked=items[bad[:_EACH]],
        told=items[np.concatenate([good, bad])],
        items=items[open_[chosen]],
        pool=np.repeat(np.arange(len(POOLS)), [len(pool) for pool in pools]),
        ratings=stars[open_[chosen]],
        seen=open_[chosen] < half,
    )


def _pools(
    items: NDArray[np.int32],
    liked: NDArray[np.int32],
    likes: str,
    world: World,
    draw: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Places in ``items`` of each pool."""
    n_items = world.dataset.n_items
    rank = np.empty(n_items, dtype=np.int64)
    rank[np.argsort(-world.parts.train_counts, kind="stable")] = np.arange(n_items)
    place = rank[items]
    taken: list[int] = []

    def keep(found: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        fresh = [int(at) for at in found if int(at) not in taken][:_OF_POOL]
        taken.extend(fresh)
        return np.array(fresh, dtype=np.int64)

    top, middle = n_items // 10, n_items * 3 // 10
    popular = keep(draw.permutation(np.flatnonzero(place < top)))
    mid = keep(draw.permutation(np.flatnonzero((place >= top) & (place < middle))))
    # The others are offered what is left, by their own order.
    asked = Requests(Ragged.from_rows([liked]))
    by_ease = world.ease.score(asked).numpy()[0][items]
    by_words = world.fusion.scores(likes)[items]
    return [
        popular,
        mid,
        keep(np.argsort(-by_ease, kind="stable")),
        keep(np.argsort(-by_words, kind="stable")),
    ]
