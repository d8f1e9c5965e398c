"""``onoma keys``: who may ask what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from onoma.cli import show

app = typer.Typer(help="API keys: add, list, revoke.", add_completion=False, no_args_is_help=True)
_Store = Annotated[
    str,
    typer.Option(
        help="The service's store: a SQLite file or postgresql://...", envvar="ONOMA_STORE"
    ),
]


@app.callback()
def keys() -> None:
    """API keys: add, list, revoke."""


@app.command(
    epilog="Examples:\n\nonoma keys add shop --store runs/shop.db\n\n"
    "onoma keys add loader --store runs/shop.db --scope read --scope write"
)
def add(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    store: _Store,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write or admin; may be given again.")
    ] = None,
) -> None:
    """Make a key and print it; it is kept as a salted hash and cannot be shown again."""
    from onoma.serving.keys import add_key
    from onoma.serving.store import open_store

    opened = open_store(store)
    try:
        typer.echo(add_key(opened, name, scope or ["read"]))
    finally:
        opened.close()


@app.command("list")
def list_keys(
    store: _Store, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """The keys, without their secrets."""
    from onoma.serving.store import open_store

    opened = open_store(store)
    try:
        records = opened.records("keys")
    finally:
        opened.close()
    rows = [
        {
            "id": record.id,
            "name": record.data["name"],
            "scopes": record.data["scopes"],
            "made": datetime.fromtimestamp(record.data["made"], UTC).isoformat(),
            "revoked": record.gone,
        }
        for record in records
    ]
    if json:
        show.emit(rows)
        return
    lines = [
        [
            r["id"],
            r["name"],
            " ".join(r["scopes"]),
            r["made"][:10],
            "revoked" if r["revoked"] else "",
        ]
        for r in rows
    ]
    show.print_table(show.grid("", ["id", "name", "scopes", "made", ""], lines))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="As onoma keys list shows it.")],
    store: _Store,
) -> None:
    """Close a key; a running service follows within a second."""
    from onoma.serving.keys import revoke_key
    from onoma.serving.store import open_store

    opened = open_store(store)
    try:
        revoke_key(opened, key)
    finally:
        opened.close()
