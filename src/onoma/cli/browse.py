"""``onoma index browse``: the tree of names with titles, in the terminal or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onoma.cli.named import Named
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from rich.tree import Tree

    from onoma.dataset import Dataset
    from onoma.indexing import ItemIndex

EXAMPLES = (
    "onoma index browse runs/flagship-movielens",
    "onoma index browse names/cid --prefix 3,0 --branches 20 --titles 5",
    "onoma index browse names/cid --html names.html",
)


def browse(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A run or index directory.")],
    prefix: Annotated[
        str | None, typer.Option(help="Show what lies below these codes, such as 17,203.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Levels below the prefix.", min=1)] = 2,
    branches: Annotated[int, typer.Option(help="Largest branches of a node.", min=1)] = 8,
    titles: Annotated[int, typer.Option(help="Titles of a leaf.", min=0)] = 3,
    html: Annotated[
        Path | None, typer.Option(help="Write the whole tree as a page to walk and search.")
    ] = None,
) -> None:
    """The tree of names with titles, largest branches first."""
    if html is not None:
        from onoma.dataset.files import write_text
        from onoma.evaluation.names_page import names_page

        named = Named(path)
        write_text(names_page(named.index, named.dataset), html)
        typer.echo(str(html))
        return

    import numpy as np
    from rich.console import Console
    from rich.tree import Tree

    named = Named(path)
    made, dataset = named.index, named.dataset
    try:
        codes = [int(code) for code in (prefix or "").split(",") if code.strip()]
    except ValueError:
        raise OnomaError(
            f"{prefix!r} is not codes", where="--prefix", fix="Such as 17,203"
        ) from None
    items = np.arange(made.n_items)
    for level, code in enumerate(codes):
        inside = level < made.depth and 0 <= code < made.sizes[level]
        items = items[made.codes[items, level] == code] if inside else items[:0]
    if not len(items):
        raise OnomaError(f"no name begins with {prefix}", where=str(path))
    counts = np.zeros(made.n_items, dtype=np.int64)
    np.add.at(counts, dataset.interactions["item"].to_numpy(), 1)
    head = f"{made.method}, {len(items):,} items" + (f" below {tuple(codes)}" if codes else "")
    tree = Tree(head)
    _grow(tree, made, dataset, items, len(codes), depth, branches, titles, counts)
    Console().print(tree, highlight=False, markup=False)


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
