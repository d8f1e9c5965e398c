"""Keywords lead to items over a graph of both, for users of whom nothing else is known.

Kieu, Nguyen, Nguyen, Nguyen and Le, "Keyword-driven Retrieval-Augmented Large Language Models for
Cold-start User Recommendations", 2024 (KALM4Rec).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from onoma.dataset import Dataset, Split
from onoma.dataset.events import log_rows
from onoma.encoding.keywords import phrases
from onoma.encoding.text import item_texts
from onoma.errors import OnomaError
from onoma.recommenders.base import Recommender, Requests
from onoma.recommenders.storage import read_model, save_model


class Keywords(Recommender):
    """Scores items by the weights of the keywords that are asked for (MPG of the paper).

    What an item is about comes from the reviews of training, or from the catalogue's texts where
    the log has none. The edge between an item and a keyword weighs TF-IRF, its count times
    ``ln(items / items that have it)``, and an item's score is the sum over the keywords that are
    asked: one sparse product. Items without any of them follow by popularity.

    A request asks by ``context["keywords"]`` (a text, or a list of texts), else by its query, else
    by the keywords of its history. Of a query the ``keep`` keywords of largest TF-IUF count, with
    users in the place of items. Where training knows no word of it, each stands for the known
    keyword nearest to it by sentence vectors.

    Departures: items keep all their keywords; with the best 20 alone, recall falls below that of
    popularity on our validation cases; strange words among known ones stand for nothing, which
    costs recall there; there is no second hop.

    Args:
        keep: keywords of a query that count.
        min_users: users who said a keyword (items that have it, without reviews); rarer ones are
            dropped.
        near: smallest cosine at which an unknown word stands for a known keyword.
        encoder: what gives the vectors, of ``onoma.encoding.sentence``; None leaves unknown words
            out.
    """

    name = "keywords"
    reads: ClassVar[frozenset[str]] = frozenset({"query", "context", "history"})

    def __init__(
        self,
        keep: int = 20,
        min_users: int = 2,
        near: float = 0.6,
        encoder: str | None = "minilm",
    ) -> None:
        if keep < 1 or min_users < 1 or not 0 < near <= 1:
            raise ValueError("keep and min_users are at least 1, near above 0 and at most 1")
        self.keep, self.min_users, self.near, self.encoder = keep, min_users, near, encoder
        self._words: list[str] = []
        self._lock = threading.Lock()
        self._vectors: NDArray[np.float32] | None = None
        self._nearest: dict[str, int] = {}

    def fit(self, split: Split) -> Self:
        """Count keywords in what training says of items."""
        texts, users, items = _told(split)
        found = phrases(texts).group_by("row", "phrase").agg(pl.len().alias("count"))
        told = pl.DataFrame({"user": users, "item": items}).with_row_index("row")
        found = found.join(told, on="row")
        known = found.group_by("phrase").agg(
            pl.col("user").n_unique().alias("users"), pl.col("item").n_unique().alias("items")
        )
        n_users, n_items = len(np.unique(users)), len(np.unique(items))
        common = pl.col("items") < n_items  # what everything has tells nothing apart
        known = known.filter((pl.col("users") >= self.min_users) & common).sort("phrase")
        self._words = known["phrase"].to_list()
        codes = known.select("phrase").with_row_index("code")
        counts = found.join(codes, on="phrase").group_by("item", "code").agg(pl.col("count").sum())
        counts = counts.sort("item", "code")
        rarity = np.log(n_items / known["items"].to_numpy())
        code = counts["code"].to_numpy().astype(np.int64)
        weights = counts["count"].to_numpy() * rarity[code]
        self._graph = sp.csr_array(
            (weights.astype(np.float32), (counts["item"].to_numpy().astype(np.int64), code)),
            shape=(split.dataset.n_items, len(self._words)),
        )
        self._rarity = np.log(max(n_users, 1) / known["users"].to_numpy()).astype(np.float32)
        self._popular = split.train_counts.astype(np.float32)
        self._ready()
        return self

    def _ready(self) -> None:
        self._code = {word: code for code, word in enumerate(self._words)}
        places = np.empty(len(self._popular), dtype=np.float32)
        places[np.argsort(-self._popular, kind="stable")] = np.arange(len(places))
        self._behind = -places / max(len(places), 1)
        kept = self.of_items(np.arange(self._graph.shape[0]), self.keep)
        codes = [[self._code[word] for word in words] for words in kept]
        self._best = _ones(codes, len(self._words))
        self._vectors, self._nearest = None, {}

    def keywords(self, texts: Sequence[str]) -> list[list[str]]:
        """The keywords of texts that count, the rarest for their number first."""
        return [[self._words[code] for code in row] for row in self._asked(texts)]

    def asked(self, requests: Requests) -> list[list[str]]:
        """The keywords that each request asks for, the rarest first, ``keep`` at most."""
        found = self._questions(requests)
        rows = np.split(found.indices, found.indptr[1:-1])
        orders = [np.argsort(-self._rarity[row], kind="stable")[: self.keep] for row in rows]
        return [
            [self._words[code] for code in row[order]]
            for row, order in zip(rows, orders, strict=True)
        ]

    def of_items(self, items: Sequence[int] | NDArray[np.integer], count: int) -> list[list[str]]:
        """The keywords of items by falling weight, ``count`` at most."""
        out = []
        for item in items:
            low, high = self._graph.indptr[item], self._graph.indptr[item + 1]
            order = np.argsort(-self._graph.data[low:high], kind="stable")[:count]
            out.append([self._words[code] for code in self._graph.indices[low:high][order]])
        return out

    def score(self, requests: Requests) -> Tensor:
        """float32[n, n_items]: positive where a keyword leads there, by popularity below."""
        found = self._match(self._questions(requests))
        return torch.from_numpy(np.where(found > 0, found, self._behind[None, :]))

    def _match(self, asked: sp.csr_array) -> NDArray[np.float32]:
        """float32[n, n_items] of 0/1[n, keywords]."""
        return np.asarray((asked @ self._graph.T).todense(), dtype=np.float32)

    def _questions(self, requests: Requests) -> sp.csr_array:
        """0/1[n, keywords], what each request asks for."""
        told = requests.context or [{}] * len(requests)
        given = [given_keywords(one) for one in told]
        texts = list(requests.query or [""] * len(requests))
        rows = self._asked(texts)
        for row, words in enumerate(given):
            if words:
                rows[row] = sorted({code for one in self._asked(words) for code in one})
        asked = _ones(rows, len(self._words))
        silent = np.array(
            [not words and not text for words, text in zip(given, texts, strict=True)]
        )
        if silent.any():
            history = requests.history.where(np.repeat(silent, requests.history.lengths))
            items = (np.ones(len(history.values), np.float32), history.values, history.offsets)
            had = sp.csr_array(items, shape=(len(requests), self._best.shape[0]))
            asked = asked + (had @ self._best).minimum(1.0)
        asked = asked.tocsr()
        asked.sort_indices()
        return asked

    def _asked(self, texts: Sequence[str]) -> list[list[int]]:
        """The codes that each text asks for, best first."""
        found = phrases(texts).group_by("row", "phrase", "words").agg(pl.len().alias("count"))
        found = found.sort("row", "phrase")
        told: list[dict[int, float]] = [{} for _ in texts]
        strange: list[tuple[int, str, int]] = []
        for row, phrase, words, count in found.iter_rows():
            code = self._code.get(phrase)
            if code is not None:
                told[row][code] = told[row].get(code, 0.0) + count * float(self._rarity[code])
            elif words == 1:
                strange.append((row, phrase, count))
        strange = [one for one in strange if not told[one[0]]]
        stands = self._like(sorted({phrase for _, phrase, _ in strange}))
        for row, phrase, count in strange:
            if (code := stands.get(phrase, -1)) >= 0:
                told[row][code] = told[row].get(code, 0.0) + count * float(self._rarity[code])
        return [sorted(codes, key=lambda code: (-codes[code], code))[: self.keep] for codes in told]

    def _like(self, words: Sequence[str]) -> dict[str, int]:
        """The known keyword nearest to each word, -1 where none is near."""
        if self.encoder is None or not self._words:
            return {}
        with self._lock:
            new = [word for word in words if word not in self._nearest]
            if new:
                from onoma.encoding.sentence import Sentence

                encoder = Sentence(self.encoder, quiet=True)
                if self._vectors is None:
                    self._vectors = encoder.encode_texts(self._words)
                likeness = encoder.encode_texts(new) @ self._vectors.T
                best = likeness.argmax(axis=1)
                close = likeness[np.arange(len(new)), best] >= self.near
                if len(self._nearest) > 100_000:  # strangers' words do not pile up in a server
                    self._nearest = {word: self._nearest[word] for word in words
                                     if word in self._nearest}  # fmt: skip
                self._nearest |= zip(new, np.where(close, best, -1).tolist(), strict=True)
            return {word: self._nearest[word] for word in words}

    def settings(self) -> dict[str, Any]:
        """The arguments that make this recommender again."""
        return {
            "keep": self.keep,
            "min_users": self.min_users,
            "near": self.near,
            "encoder": self.encoder,
        }

    def save(self, folder: str | Path) -> None:
        """Write the graph and its words."""
        words = np.frombuffer("\n".join(self._words).encode(), dtype=np.uint8)
        arrays = {
            "graph": self._graph,
            "rarity": self._rarity,
            "popular": self._popular,
            "words": words,
        }
        save_model(folder, self.name, self.settings(), arrays)

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> Self:
        """Read what :meth:`save` wrote."""
        settings, arrays = read_model(folder, cls.name)
        model = cls(**settings)
        text = arrays["words"].tobytes().decode()
        model._words = text.split("\n") if text else []
        model._graph, model._rarity = arrays["graph"], arrays["rarity"]
        model._popular = arrays["popular"]
        if model._graph.shape != (dataset.n_items, len(model._words)):
            raise OnomaError(
                f"the graph is for {model._graph.shape[0]} items, not {dataset.n_items}",
                where=str(folder),
                fix="Use the data the model was fitted on",
            )
        model._ready()
        return model


class KeywordOverlap(Keywords):
    """Scores items by the Jaccard index of the keywords asked for and their own ``keep`` best.

    The plain retriever beside :class:`Keywords`; arguments as there.
    """

    name = "keyword-overlap"

    def _match(self, asked: sp.csr_array) -> NDArray[np.float32]:
        both = np.asarray((asked @ self._best.T).todense(), dtype=np.float32)
        sizes = asked.sum(axis=1)[:, None] + self._best.sum(axis=1)[None, :]
        return np.asarray(both / np.maximum(sizes - both, 1), dtype=np.float32)


def given_keywords(context: Mapping[str, Any]) -> list[str]:
    """The texts that a request's context asks by, none where it names no keywords.

    Raises:
        OnomaError: neither a text nor a list of texts; a number counts as its text.
    """
    told = context.get("keywords")
    texts = told if isinstance(told, list | tuple) else [] if told is None else [told]
    for text in texts:
        if not isinstance(text, str | int | float):
            raise OnomaError(
                f"keywords are a text or a list of texts, not {told!r:.80}", where="context"
            )
    return [str(text) for text in texts if text != ""]


def _ones(rows: Sequence[Sequence[int]], width: int) -> sp.csr_array:
    """float32[n, width], 1 at the columns of each row."""
    offsets = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    return sp.csr_array(
        (np.ones(len(columns), np.float32), columns, offsets), shape=(len(rows), width)
    )


def _told(split: Split) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Texts, who says them and of which item; the catalogue speaks where there are no reviews."""
    dataset = split.dataset
    log = dataset.interactions
    if "review_text" not in log.columns:
        texts = item_texts(dataset.items)
        codes = np.arange(dataset.n_items, dtype=np.int64)
        return texts, codes, codes
    names = [name for name in ("review_title", "review_text") if name in log.columns]
    events = log.select("user", "item", "timestamp", *names)[log_rows(split).train]
    events = events.unique(maintain_order=True)  # some logs repeat whole rows
    said = events.select(pl.concat_str(names, separator="\n", ignore_nulls=True).fill_null(""))
    return (
        said.to_series().to_list(),
        events["user"].to_numpy().astype(np.int64),
        events["item"].to_numpy().astype(np.int64),
    )
