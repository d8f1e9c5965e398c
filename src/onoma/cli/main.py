"""The ``onoma`` command: which verbs there are, and how errors leave."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from onoma.errors import OnomaError


@dataclass(frozen=True)
class Verb:
    """One line of ``onoma --help`` and where the verb lives.

    Attributes:
        target: ``module:attribute``, a function or a typer application.
        help: one sentence.
        examples: command lines shown below the verb's own help.
        more: verbs of an application that live in modules of their own.
    """

    target: str
    help: str
    examples: tuple[str, ...] = ()
    more: tuple[tuple[str, str], ...] = ()


VERBS = {
    "data": Verb(
        "onoma.cli.data:app",
        "Import, describe, validate and audit data.",
        more=(("audit", "onoma.cli.audit:audit"),),
    ),
    "run": Verb(
        "onoma.cli.run:run",
        "Fit, measure and report one recipe.",
        (
            "onoma run flagship --data packaged:movielens",
            "onoma run sasrec --data ratings.parquet --out runs/mine seed=1",
            "onoma run my.yaml recommender.width=128 recommender.train.epochs=5 --fresh",
        ),
    ),
    "evaluate": Verb(
        "onoma.cli.run:evaluate",
        "Measure a finished run again, on any part, in any mode.",
        (
            "onoma evaluate runs/flagship-movielens --mode generate",
            "onoma evaluate runs/mine --part valid --repeats --json",
        ),
    ),
    "compare": Verb(
        "onoma.cli.compare:compare",
        "Paired tests between runs on the same cases; the first is the baseline.",
        (
            "onoma compare runs/sasrec-movielens runs/flagship-movielens",
            "onoma compare runs/a runs/b runs/c --metric recall@10 --html compare.html",
        ),
    ),
    "leaderboard": Verb(
        "onoma.cli.leaderboard:leaderboard",
        "Recipes x data sets x seeds in one table; finished rows are kept.",
        (
            "onoma leaderboard --data packaged:movielens --recipes sasrec,markov --seeds 1",
            "onoma leaderboard --data DIR --data DIR --seeds 3 --budget 120",
            "onoma leaderboard --out results",
        ),
    ),
    "recommend": Verb(
        "onoma.cli.recommend:recommend",
        "What a run answers to a user or a bare history.",
        (
            "onoma recommend runs/flagship-movielens --user 42",
            "onoma recommend runs/flagship-movielens --history 260,1196,1210 -k 5 --json",
        ),
    ),
    "explain": Verb(
        "onoma.cli.explain:explain",
        "Why a run recommends an item to a user or a bare history.",
        (
            "onoma explain runs/flagship-movielens --user 42",
            "onoma explain runs/flagship-movielens --history 260,1196 --item 1210 --json",
            "onoma explain runs/sasrec-movielens --user 42 --method leave-one-out",
        ),
    ),
    "serve": Verb(
        "onoma.cli.serve:serve",
        "Answer over HTTP: recommendations, search, live events and items.",
        (
            "onoma serve runs/flagship-movielens",
            "onoma serve runs/shop --host 0.0.0.0 --store postgresql://shop@db/shop --workers 4",
        ),
    ),
    "refresh": Verb(
        "onoma.cli.serve:refresh",
        "Train a served run again on what its service has learnt since.",
        (
            "onoma refresh runs/flagship-movielens",
            "onoma refresh runs/shop --store postgresql://shop@db/shop --swap http://127.0.0.1:8000",
        ),
    ),
    "keys": Verb("onoma.cli.keys:app", "API keys: add, list, revoke."),
    "index": Verb("onoma.cli.index:app", "Build, judge and look at names."),
    "study": Verb("onoma.cli.study:app", "Which method suits a catalogue, by experiment."),
    "models": Verb("onoma.cli.models:app", "Language models: list, pull, try, serve."),
    "prompts": Verb("onoma.cli.prompts:app", "The texts that language models are asked with."),
    "systems": Verb(
        "onoma.cli.systems:systems",
        "The published systems: status, recipe and figures.",
        ("onoma systems", "onoma systems S116", "onoma systems --status ready --json"),
    ),
    "demo": Verb(
        "onoma.cli.run:demo",
        "Train the flagship and the baselines on MovieLens and compare them.",
        ("onoma demo", "onoma demo --out runs/demo"),
    ),
    "mcp": Verb(
        "onoma.cli.mcp:mcp",
        "Offer a run to assistants: recommend, search, similar, explain over MCP on stdio.",
        ("onoma mcp runs/flagship-movielens",),
    ),
    "doctor": Verb(
        "onoma.cli.doctor:doctor",
        "What this machine can compute with.",
        ("onoma doctor", "onoma doctor --json"),
    ),
}


class Verbs(TyperGroup):
    """A group that imports a verb when it is called, not when it is listed."""

    table: ClassVar[dict[str, Verb]] = VERBS
    listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command; while help is printed, a stand-in that carries its sentence."""
        verb = self.table.get(cmd_name)
        if verb is None:
            return None
        if self.listing or ctx.resilient_parsing:
            return TyperCommand(cmd_name, help=verb.help, rich_markup_mode="rich")
        found = _find(verb.target)
        if isinstance(found, typer.Typer):
            there = {command.name for command in found.registered_commands}
            for name, target in verb.more:
                if name not in there:
                    found.command(name)(_find(target))
        else:
            wrapped = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            epilog = "\n\n".join(("Examples:", *verb.examples)) if verb.examples else None
            wrapped.command(cmd_name, help=verb.help, epilog=epilog)(found)
            found = wrapped
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Help without importing any verb."""
        self.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.listing = False


def _find(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from onoma import __version__

        typer.echo(f"onoma {__version__}")
        raise typer.Exit


@app.callback()
def onoma(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Name every item of a catalogue, train recommenders that say names, measure them.

    Start with: onoma demo
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code.

    0: done. 1: a defect of Onoma (``ONOMA_DEBUG=1`` shows the traceback). 2: bad input, told in
    one line on stderr. 130: interrupted.
    """
    try:
        code = typer.main.get_command(app).main(
            args=None if arguments is None else list(arguments),
            prog_name="onoma",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has had enough; the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted; the same command goes on where it stopped", kind="stopped")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("ONOMA_DEBUG"):
            raise
        line, exit_code = explain(error)
        _complain(line)
        sys.exit(exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def explain(error: Exception) -> tuple[str, int]:
    """One line and an exit code for anything that can be raised."""
    from pydantic import ValidationError

    if isinstance(error, OnomaError):
        return str(error), 2
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        return f"{error.title}: {key}: {first['msg']}", 2
    if hasattr(error, "format_message"):  # click's usage errors, whichever click typer carries
        context = getattr(error, "ctx", None)
        where = f" (see {context.command_path} --help)" if context is not None else ""
        return f"{error.format_message().rstrip('.')}{where}", 2
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", 2
    line = f"{type(error).__name__}: {error}".split("\n")[0]
    return f"a defect of Onoma, not of your input: {line}. ONOMA_DEBUG=1 shows where", 1


def _complain(line: str, kind: str = "error") -> None:
    line = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    head = f"\x1b[1;31m{kind}:\x1b[0m" if colour else f"{kind}:"
    print(f"{head} {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
