"""``onoma study quantisers``: what codes of one size keep of the catalogue's vectors."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onoma import encoding, indexing
from onoma.dataset import split
from onoma.dataset.files import write_text
from onoma.dataset.load import load
from onoma.errors import OnomaError
from onoma.indexing.agreement import reconstruction_error
from onoma.indexing.index import ItemIndex
from onoma.indexing.quantised import VectorNames
from onoma.indexing.stability import adjusted_mutual_information

LEVELS, SIZE = 4, 256  # 32 bits
QUANTISERS: dict[str, dict[str, Any]] = {
    "rqkmeans": {"size": SIZE},
    "balanced": {"size": SIZE},
    "uniform": {"size": SIZE},
    "pq": {"size": SIZE},
    "opq": {"size": SIZE},
    "rqvae": {"size": SIZE},
    "rqkmeans+": {"size": SIZE},
    "fsq": {"steps": (8, 8, 4)},
    "parallel": {"size": SIZE},
    "lsh": {"bits": 8},
}
SEARCHED = ("pq", "opq", "rqkmeans")  # those that search tries, with 32 levels of 8 bits
SEARCH_LEVELS, CANDIDATES, TOP, QUERIES = 32, 200, 10, 1000


def quantisers(
    data: str,
    out: str | Path,
    *,
    encoder: str = "tfidf",
    methods: Sequence[str] = tuple(QUANTISERS),
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Quantise one catalogue's vectors by several methods with the same bits an item.

    Args:
        data: as for :func:`onoma.run.run`.
        out: ``quantisers.json`` and ``quantisers.html`` go here.
        encoder: a name of ``encoding.ENCODERS``.
        methods: names of ``QUANTISERS``.
        seed: of every quantiser, and of the queries.
        tell: called with a line after each method.

    Returns:
        ``dataset``, ``encoder``, ``width``, ``without_vector`` (items), ``identical`` (one less
        different vectors / items: collisions that no quantiser can avoid), ``codes`` (one row a
        method at 32 bits), ``search`` (at 32 bytes), ``three_levels`` (rqvae and rqkmeans with 3
        codes), ``uniform`` (repair of the last code) and ``acceptance`` (of what was tried: what
        was asked, what was measured, and whether it holds).

    Raises:
        OnomaError: an unknown method, or fewer items than codes need.
    """
    unknown = [name for name in methods if name not in QUANTISERS]
    if unknown or not methods:
        what = f"no quantiser is called {unknown[0]!r}" if unknown else "no methods"
        raise OnomaError(what, where="study", fix=f"Known: {', '.join(QUANTISERS)}")
    out = Path(out)
    parts = split(load(data))
    vectors = encoding.cached(encoding.build(encoder), parts)
    if len(vectors) < 4 * SIZE:
        raise OnomaError(
            f"{len(vectors)} items are too few for {SIZE} codes a level", where=str(data),
            fix=f"Use a catalogue of at least {4 * SIZE} items",
        )  # fmt: skip
    rows, made = [], {}
    for name in methods:
        row, made[name] = _quantised(name, vectors, LEVELS, seed)
        row["repeats"] = repeats(made[name].codes[:, :LEVELS])
        rows.append(row)
        tell(_line(row))
    search = []
    for name in (name for name in SEARCHED if name in methods):
        row, index = _quantised(name, vectors, SEARCH_LEVELS, seed)
        row["recall@10"] = search_recall(vectors, index, seed)
        search.append(row)
        tell(f"search by {name}: recall@10 {row['recall@10']:.4f}")
    three = []
    for name in (name for name in ("rqvae", "rqkmeans") if name in methods):
        three.append(_quantised(name, vectors, 3, seed)[0])
        tell(_line(three[-1]))
    result = {
        "dataset": {"name": parts.dataset.name, "items": len(vectors), "hash": parts.dataset.hash},
        "encoder": encoder,
        "width": vectors.shape[1],
        "without_vector": int((~vectors.any(axis=1)).sum()),
        "identical": 1 - len(np.unique(vectors.round(5), axis=0)) / len(vectors),
        "seed": seed,
        "codes": rows,
        "search": search,
        "three_levels": three,
        "uniform": _repair(made["uniform"]) if "uniform" in made else None,
    }
    result["acceptance"] = acceptance(result)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "quantisers.json")
    write_text(_page(result), out / "quantisers.html")
    return result


def search_recall(vectors: NDArray[np.float32], index: ItemIndex, seed: int = 0) -> float | None:
    """Recall of the nearest ten when codes give 200 candidates that are then measured exactly.

    Queries are up to 1,000 items, each without itself. The distance of a query to a code is that
    to the vector the code stands for, which is what tables of distances to centroids add up to
    (Jegou et al., TPAMI 2011, section 3.2). An answer as near as the tenth counts as found.

    Args:
        vectors: float32[n, dim]; zero rows are neither asked nor found.
        index: names of a method that can decode them.
        seed: of the queries.

    Returns:
        A share of the true neighbours; None where names decode to nothing.
    """
    said = index.reconstruct()
    if said is None:
        return None
    known = vectors.any(axis=1)
    points, coded = torch.from_numpy(vectors[known]), torch.from_numpy(said[known])
    n, top = len(points), min(TOP, int(known.sum()) - 1)
    if top < 1:
        return None
    asked = torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(n)[:QUERIES]))
    half, half_coded = points.square().sum(1) / 2, coded.square().sum(1) / 2
    found = 0.0
    for rows in torch.split(asked, 128):
        query, own = points[rows], torch.arange(len(rows))
        exact = half - query @ points.T  # half the squared distance, less what is the query's own
        exact[own, rows] = torch.inf
        guess = half_coded - query @ coded.T
        guess[own, rows] = torch.inf
        near = guess.topk(min(CANDIDATES, n - 1), largest=False).indices
        answer = exact.gather(1, near).topk(top, largest=False).values
        limit = exact.topk(top, largest=False).values[:, -1:]
        found += float((answer <= limit + 1e-6).double().sum())
    return found / (len(asked) * top)


def acceptance(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What four systems ask of quantisers that were tried, beside what was measured.

    Returns:
        Rows of ``system``, ``asked``, ``measured`` (text) and ``holds``.
    """
    codes = {row["method"]: row for row in result["codes"]}
    three = {row["method"]: row for row in result["three_levels"]}
    rows: list[dict[str, Any]] = []

    def put(system: str, asked: str, measured: str, holds: bool) -> None:
        rows.append({"system": system, "asked": asked, "measured": measured, "holds": holds})

    for asked, one, most in (
        ("32 bits: error of rqkmeans at most 0.6 of pq's", "rqkmeans", 0.6),
        ("32 bits: error of opq at most pq's", "opq", 1.0),
    ):
        if one in codes and "pq" in codes:
            value = codes[one]["error"] / codes["pq"]["error"]
            put("S116", asked, f"{value:.3f}", value <= most)
    if search := result["search"]:
        asked = "32 bytes and 200 candidates: recall@10 of exact search at least 0.98"
        each = ", ".join(f"{row['recall@10']:.4f} {row['method']}" for row in search)
        put("S116", asked, each, min(row["recall@10"] for row in search) >= 0.98)
    if repair := result["uniform"]:
        put("S067", "uniform 4 x 256: greedy collisions above 3 %, below 0.5 % after transport",
            f"{repair['greedy']:.2%} to {repair['after_transport']:.2%}",
            repair["greedy"] > 0.03 and repair["after_transport"] < 0.005)  # fmt: skip
        before, after = repair["perplexity"]
        put("S067", "uniform 4 x 256: perplexity of the last level does not fall",
            f"{before:.1f} to {after:.1f}", after >= before)  # fmt: skip
        put("S067", "uniform 4 x 256: no collisions after assignment",
            f"{repair['after_assignment']:.2%}, {repair['moved']} items left an overfull group",
            repair["after_assignment"] == 0)  # fmt: skip
    if coded := three.get("rqvae"):
        put("S033", "rqvae 3 x 256: at least 80 % of the codes of every level are used",
            _shares(coded["used"]), min(coded["used"]) >= 0.8)  # fmt: skip
        put("S033", "rqvae 3 x 256: below 10 % collisions before the fourth code",
            f"{coded['collisions']:.2%}", coded["collisions"] < 0.1)  # fmt: skip
    if experts := codes.get("parallel"):
        put("S110", "parallel 4 x 256: at least 80 % of the codes of every expert are used",
            _shares(experts["used"]), min(experts["used"]) >= 0.8)  # fmt: skip
        if "pq" in codes:
            mine, its = experts["repeats"], codes["pq"]["repeats"]
            asked = (
                "parallel 4 x 256: experts repeat each other at most half as much as parts of pq"
            )
            put("S110", asked, f"{mine:.3f} by {its:.3f}", mine <= its / 2)
    return rows


def _shares(used: Sequence[float]) -> str:
    return " ".join(f"{share:.0%}" for share in used)


def repeats(codes: NDArray[np.integer]) -> float:
    """How much the codes of different levels say the same: 0 as by chance, 1 if one tells all.

    The adjusted mutual information of two columns of int[n, levels] codes, the mean of all pairs.
    """
    pairs = itertools.combinations(codes.T, 2)
    found = [adjusted_mutual_information(one, other) for one, other in pairs]
    return float(np.mean(found)) if found else 0.0


def _quantised(
    name: str, vectors: NDArray[np.float32], levels: int, seed: int
) -> tuple[dict[str, Any], ItemIndex]:
    """A row of the table, and the names."""
    settings = {"levels": levels, **QUANTISERS[name]}
    way = indexing.build(name, **settings)
    assert isinstance(way, VectorNames)
    began = time.monotonic()
    index = way.name_vectors(vectors, seed)
    seconds = time.monotonic() - began
    health = index.health()
    coded = health.levels[: index.depth - bool(index.meta.get("disambiguated"))]
    said = index.reconstruct()
    return {
        "method": name,
        "levels": levels,
        "bits": round(sum(float(np.log2(level.size)) for level in coded), 1),
        "error": None if said is None else reconstruction_error(vectors, said),
        "collisions": 1 - health.before.names / health.n_items,
        "sharing": health.before.share,
        "largest": health.before.largest,
        "names": health.before.names,
        "used": [level.utilisation for level in coded],
        "perplexity": [round(2**level.entropy, 1) for level in coded],
        "seconds": round(seconds, 2),
    }, index


def _repair(index: ItemIndex) -> dict[str, Any]:
    """What the uniform mapping did; collisions are 1 - names / items."""
    return {
        **index.meta["met"],
        "perplexity": index.meta["last_perplexity"],
        "moved": index.meta["moved"],
    }


def _line(row: Mapping[str, Any]) -> str:
    error = "" if row["error"] is None else f"error {row['error']:.3f}, "
    return (
        f"{row['method']} {row['levels']} x 8 bits: {error}{row['collisions']:.2%} collisions, "
        f"{row['seconds']:.1f} s"
    )


def _page(result: Mapping[str, Any]) -> str:
    from onoma.evaluation.report_page import Dot, Markup, dot_chart, number, page, section, table

    def mark(holds: bool) -> Markup:
        return Markup(
            f'<span class="tag{" yes" if holds else ""}">{"yes" if holds else "no"}</span>'
        )

    def line(row: Mapping[str, Any]) -> list[object]:
        return [
            row["method"], number(row["error"], 3), f"{row['names']:,}",
            f"{row['collisions']:.2%}", f"{row['sharing']:.1%}", row["largest"],
            " / ".join(f"{value:.0f}" for value in row["perplexity"][:LEVELS]),
            number(min(row["used"]), 2), number(row.get("repeats"), 2), number(row["seconds"], 1),
        ]  # fmt: skip

    head = ["method", "error", "names", "collisions", "items sharing", "largest", "perplexity",
            "least used", "repeats", "seconds"]  # fmt: skip
    about = result["dataset"]
    asked = [[row["system"] + ": " + row["asked"], row["measured"], mark(row["holds"])]
             for row in result["acceptance"]]  # fmt: skip
    rows = sorted(result["codes"], key=lambda row: (row["error"] is None, row["error"]))
    dots = [Dot(row["method"], row["error"], ours=True) for row in rows if row["error"] is not None]
    found = [
        [
            row["method"],
            f"{row['recall@10']:.4f}",
            number(row["error"], 4),
            number(row["seconds"], 1),
        ]
        for row in result["search"]
    ]
    note = (
        "Error is the squared error of what the codes decode to, by the variance of the vectors. "
        "Collisions are 1 - names / items before any code that tells equals apart; uniform has no "
        "such code and repairs its last level instead, at some error. lsh decodes to nothing. "
        "Repeats is the mutual information of two levels' codes beyond chance, the mean of pairs. "
        f"Vectors alone leave {result['identical']:.2%} collisions: those of equal items."
    )
    return page(
        f"Quantisers on {about['name']}",
        f"{about['items']:,} items, {result['encoder']} vectors of width {result['width']} "
        f"({result['without_vector']:,} without one), seed {result['seed']}, data {about['hash']}",
        [
            section("Asked and measured", table(["", "measured", "holds"], asked)),
            section("32 bits an item", f'<div class="pair">{dot_chart("Error", dots)}</div><br>',
                    table(head, [line(row) for row in rows]), note=note),
            section("Search: 32 bytes an item, 200 candidates measured exactly",
                    table(["method", "recall@10", "error", "seconds"], found)),
            section("Three codes", table(head, [line(row) for row in result["three_levels"]])),
        ],
    )  # fmt: skip
