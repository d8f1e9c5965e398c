"""``onoma mcp``: a run as tools for assistants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def mcp(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
) -> None:
    """Offer a run to assistants: recommend, search, similar, explain over MCP on stdio.

    The program that starts this command talks to it on stdin and stdout; the log goes to stderr.
    """
    from functools import partial

    from onoma.run import known, open_run
    from onoma.serving.mcp import Tools, server

    run = open_run(path)
    told = partial(known, run.recipe, run.dataset)
    server(Tools(run.split, run.recommender, told)).run("stdio")
