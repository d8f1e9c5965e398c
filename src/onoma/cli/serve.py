"""``onoma serve`` and ``onoma refresh``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from onoma.errors import OnomaError

_Store = Annotated[
    str | None,
    typer.Option(
        help="postgresql://... or a SQLite file (default RUN's name with .db, beside it).",
        envvar="ONOMA_STORE",
    ),
]


def store_of(run: Path, store: str | None) -> str:
    """The store of a run: as named, or the file beside it."""
    if store is not None:
        return store
    whole = run.resolve()
    return str(whole.with_name(f"{whole.name}.db"))


def serve(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    host: Annotated[str, typer.Option(help="Address; off loopback needs API keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=0, max=65535)] = 8000,
    store: _Store = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 1,
    threads: Annotated[int, typer.Option(help="Torch threads a process.", min=1, max=256)] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a second for each key; 0: no limit. Default: 100 where keys are asked "
            "for, else no limit.",
            min=0,
            show_default=False,
        ),
    ] = None,
    burst: Annotated[int, typer.Option(help="Requests at once for each key.", min=1)] = 100,
    body: Annotated[int, typer.Option(help="Bytes of the largest body.", min=1024)] = 1 << 20,
    origin: Annotated[
        list[str] | None, typer.Option(help="A web origin that may call; may be given again.")
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(help="A further name for a service on loopback, behind a proxy."),
    ] = None,
    require_keys: Annotated[
        bool, typer.Option("--require-keys", help="Ask for keys on loopback too.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No access log.")] = False,
    studio: Annotated[
        bool, typer.Option(help="The studio under /studio; it needs a single process.")
    ] = True,
) -> None:
    """Answer over HTTP, with the studio beside it."""
    if not (path / "recipe.yaml").is_file():
        raise OnomaError("not a run directory (no recipe.yaml)", where=str(path))
    # Read once, when the libraries load: it holds for every thread of theirs, torch's own does not.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        from onoma.serving.options import Options
        from onoma.serving.server import serve as start
    except ImportError as error:
        raise OnomaError(
            f"{error.name} is not installed", where="serve",
            fix="Install the serve extra: pip install 'onoma[serve]'",
        ) from None  # fmt: skip
    options = Options(
        run=str(path), store=store_of(path, store), host=host, port=port, workers=workers,
        threads=threads, rate=rate, burst=burst, body=body, origins=tuple(origin or ()),
        require_keys=require_keys, quiet=quiet,
    )  # fmt: skip
    if host_name:
        options = options.model_copy(update={"hosts": (*options.hosts, *host_name)})
    typer.echo(f"http://{host}:{port}/v1  (store {options.store})", err=True)
    if not studio:
        start(options)
        return
    if workers > 1:
        typer.echo("no studio: it needs --workers 1", err=True)
        start(options)
        return
    if find_spec("nicegui") is None:
        typer.echo("no studio: nicegui is not installed (pip install 'onoma[serve]')", err=True)
        start(options)
        return
    typer.echo(f"http://{host}:{port}/studio", err=True)
    start(options, "onoma.studio.mount:from_environment")


def refresh(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    store: _Store = None,
    swap: Annotated[
        str | None, typer.Option(help="Address of a running service that is to take the new run.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="An admin key of that service.", envvar="ONOMA_KEY")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train again on the data and what the service has learnt since."""
    from onoma.serving.refresh import refresh as start
    from onoma.serving.store import open_store

    opened = open_store(store_of(path, store))
    try:
        made = start(path, opened, quiet=quiet)
    finally:
        opened.close()
    typer.echo(str(made.path))
    if swap is not None:
        from onoma.serving.client import Client

        answer = Client(swap, key, timeout=600).swap(made.path.resolve().name)
        typer.echo(f"{swap} answers with {answer['name']}")
