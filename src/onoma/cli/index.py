"""``onoma index``: build, judge and look at names."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onoma.cli import show
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from rich.tree import Tree

    from onoma.dataset import Dataset
    from onoma.indexing import ItemIndex

app = typer.Typer(
    help="Build, judge and look at names.", add_completion=False, no_args_is_help=True
)
_Path = Annotated[Path, typer.Argument(metavar="DIR", help="A run or index directory.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def index() -> None:
    """Build, judge and look at names."""


@app.command(
    epilog="Examples:\n\nonoma index build rqkmeans --data packaged:movielens --out names/rq\n\n"
    "onoma index build collaborative --data DIR --out names/cid clusters=20 leaf=500\n\n"
    "onoma index build rqkmeans --data DIR --out names/s encoder=sentence levels=4"
)
def build(
    method: Annotated[str, typer.Argument(help="A way of naming; onoma index methods lists them.")],
    data: Annotated[str, typer.Option(help="Folder or file of the data, or packaged:movielens.")],
    out: Annotated[Path, typer.Option(help="Where the index goes.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of the method and encoder=NAME: key=value ..."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal names.", min=0)] = 0,
    json: _Json = False,
) -> None:
    """Name a catalogue; validation and test interactions are not read."""
    from onoma import encoding, indexing
    from onoma.dataset import split
    from onoma.dataset.load import load
    from onoma.recipe import override

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OnomaError("the folder is not empty", where=str(out), fix="Use another --out")
    how: dict[str, Any] = {}
    for word in settings or []:
        override(how, word)
    encoder = how.pop("encoder", "tfidf")
    way = indexing.build(method, **how)
    parts = split(load(data))
    began = time.monotonic()
    vectors = None if encoder is None else encoding.build(encoder).encode(parts)
    encoded = time.monotonic()
    made = way.build(parts, vectors, seed)
    source = {
        "data": data if data.startswith("packaged:") else str(Path(data).resolve()),
        "hash": parts.dataset.hash,
        "encoder": encoder,
        "seconds": {
            "encode": round(encoded - began, 2),
            "index": round(time.monotonic() - encoded, 2),
        },
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    replace(made, meta={**made.meta, "source": source}).save(out)
    report = made.health()
    if json:
        show.emit({**source, "health": report.to_dict()})
        return
    show.print_table(report.table())
    seconds = source["seconds"]
    typer.echo(f"{made.n_items:,} items named in {seconds['index']} s (encoding "
               f"{seconds['encode']} s): {out}")  # fmt: skip
    typer.echo(f"Next: onoma index browse {out}")


@app.command()
def methods(json: _Json = False) -> None:
    """The ways of naming, with what each reads."""
    from importlib import import_module

    from onoma.indexing import METHODS

    rows = []
    for name, target in METHODS.items():
        module, _, attribute = target.partition(":")
        way = getattr(import_module(module), attribute)
        about = (way.__doc__ or "").strip().splitlines()[0]
        rows.append({"method": name, "vectors": way.needs_vectors, "about": about})
    if json:
        show.emit(rows)
        return
    lines = [
        [row["method"], "needed" if row["vectors"] else "optional", row["about"]] for row in rows
    ]
    show.print_table(show.grid("", ["method", "vectors", "about"], lines))


@app.command(
    epilog="Examples:\n\nonoma index health runs/flagship-movielens\n\n"
    "onoma index health runs/flagship-movielens --json"
)
def health(path: _Path, json: _Json = False) -> None:
    """Collisions, use and entropy of each level, balance of the prefixes."""
    from onoma.indexing import Health

    report = Health.of(_load(path))
    if json:
        show.emit(report.to_dict())
    else:
        show.print_table(report.table())


@app.command(
    epilog="Examples:\n\nonoma index browse runs/flagship-movielens\n\n"
    "onoma index browse names/cid --prefix 3,0 --branches 20 --titles 5"
)
def browse(
    path: _Path,
    prefix: Annotated[
        str | None, typer.Option(help="Show what lies below these codes, such as 17,203.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Levels below the prefix.", min=1)] = 2,
    branches: Annotated[int, typer.Option(help="Largest branches of a node.", min=1)] = 8,
    titles: Annotated[int, typer.Option(help="Titles of a leaf.", min=0)] = 3,
) -> None:
    """The tree of names with titles, largest branches first."""
    import numpy as np
    from rich.console import Console
    from rich.tree import Tree

    made, dataset = _load(path), _dataset(path)
    try:
        codes = [int(code) for code in (prefix or "").split(",") if code.strip()]
    except ValueError:
        raise OnomaError(
            f"{prefix!r} is not codes", where="--prefix", fix="Such as 17,203"
        ) from None
    below = (made.codes[:, : len(codes)] == np.array(codes, dtype=np.int32)).all(axis=1)
    items = np.flatnonzero(below)
    if not len(items):
        raise OnomaError(f"no name begins with {prefix}", where=str(path))
    counts = np.zeros(made.n_items, dtype=np.int64)
    np.add.at(counts, dataset.interactions["item"].to_numpy(), 1)
    head = f"{made.method}, {len(items):,} items" + (f" below {tuple(codes)}" if codes else "")
    tree = Tree(head)
    _grow(tree, made, dataset, items, len(codes), depth, branches, titles, counts)
    Console().print(tree, highlight=False, markup=False)


@app.command(epilog="Example:\n\nonoma index compare names/rq names/cid runs/flagship-movielens")
def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Index directories.")],
    json: _Json = False,
) -> None:
    """Health figures of several indices side by side."""
    from onoma.indexing import Health

    rows = []
    for path in paths:
        made = _load(path)
        report = Health.of(made)
        last = report.levels[-1]
        rows.append(
            {
                "index": str(path),
                "method": made.method,
                "sizes": list(made.sizes),
                "used": [round(level.utilisation, 3) for level in report.levels],
                "evenness": [round(level.evenness, 3) for level in report.levels],
                "collisions_before": report.before.share,
                "collisions_after": report.after.share,
                "largest_first": report.levels[0].largest,
                "prefixes": last.prefixes,
                "seconds": made.meta.get("source", {}).get("seconds", {}).get("index"),
            }
        )
    if json:
        show.emit(rows)
        return

    def line(row: dict[str, Any]) -> list[object]:
        return [
            row["index"], row["method"], " ".join(map(str, row["sizes"])),
            " ".join(f"{share:.0%}" for share in row["used"]),
            " ".join(f"{share:.2f}" for share in row["evenness"]),
            f"{row['collisions_before']:.1%}", f"{row['collisions_after']:.1%}",
            row["largest_first"], "–" if row["seconds"] is None else row["seconds"],
        ]  # fmt: skip

    head = ["index", "method", "sizes", "used", "evenness", "collide before", "after",
            "largest branch", "seconds"]  # fmt: skip
    show.print_table(show.grid("", head, [line(row) for row in rows]))


def _load(path: Path) -> ItemIndex:
    folder = path if (path / "index.json").is_file() else path / "index"
    if not (folder / "index.json").is_file():
        raise OnomaError(
            "no names here (index/index.json is missing)", where=str(path),
            fix="Only recommenders that spell names have an index",
        )  # fmt: skip
    from onoma.indexing import ItemIndex

    return ItemIndex.load(folder)


def _dataset(path: Path) -> Dataset:
    """The data an index was built on."""
    from onoma.dataset.load import load
    from onoma.run import open_run

    if (path / "recipe.yaml").is_file():
        return open_run(path).dataset
    source = _load(path).meta.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("data"), str):
        raise OnomaError("the index does not say what data it names", where=str(path))
    dataset = load(source["data"])
    if dataset.hash != source.get("hash"):
        raise OnomaError(
            "the data changed since the index was built", where=str(path), fix="Build it again"
        )
    return dataset


def _grow(
    tree: Tree,
    made: ItemIndex,
    dataset: Dataset,
    items: NDArray[np.int64],
    level: int,
    depth: int,
    branches: int,
    titles: int,
    counts: NDArray[np.int64],
) -> None:
    """Hang the branches below a node, largest first; at the end the most common titles."""
    import numpy as np

    last = depth == 0 or level >= made.depth or len(items) <= max(titles, 1)
    if last:
        common = items[np.argsort(-counts[items], kind="stable")][:titles]
        for title in _named(dataset, common):
            tree.add(title)
        if len(items) > titles:
            tree.add(f"… {len(items) - titles:,} more items")
        return
    codes, sizes = np.unique(made.codes[items, level], return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    for place in order[:branches]:
        code = int(codes[place])
        label = "(ends here)" if code < 0 else f"{code}"
        node = tree.add(f"{label}  {int(sizes[place]):,} items")
        inside = items[made.codes[items, level] == code]
        _grow(node, made, dataset, inside, level + 1, depth - 1, branches, titles, counts)
    if len(order) > branches:
        rest = int(sizes[order[branches:]].sum())
        tree.add(f"… {len(order) - branches:,} more branches, {rest:,} items")


def _named(dataset: Dataset, items: NDArray[np.int64]) -> Sequence[str]:
    return [str(title) for title in dataset.titles(items)]
