"""``onoma prompts``: the texts that language models are asked with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onoma.cli import show

app = typer.Typer(
    help="The texts that language models are asked with.",
    add_completion=False,
    no_args_is_help=True,
)


@app.command("list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The prompt library: name, version and what each is for."""
    from onoma.language.templates import Template, library

    found = [Template.load(name) for name in library()]
    if json:
        show.emit([_record(one) for one in found])
        return
    table = show.grid("", ["prompt", "hash", "about"], [[t.id, t.hash, t.about] for t in found])
    for column in table.columns:
        column.justify = "left"
    show.print_table(table)


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="A name of the list, or the path of a YAML file.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """One prompt: its texts and what is filled in."""
    from onoma.language.templates import Template

    found = Template.load(name)
    if json:
        show.emit(_record(found))
        return
    typer.echo(f"{found.id} ({found.hash}): {found.about}")
    for part, text in (("system", found.system), ("user", found.user)):
        if text:
            lines = text.rstrip("\n").splitlines()
            typer.echo(f"\n{part}\n" + "\n".join(f"    {row}".rstrip() for row in lines))
    if found.placeholders:
        typer.echo("\nfilled in")
        for word, about in found.placeholders.items():
            typer.echo(f"    ${word}: {about}")


def _record(template: Any) -> dict[str, Any]:
    return {"id": template.id, "hash": template.hash, **template.model_dump(mode="json")}
