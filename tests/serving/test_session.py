"""The printed curl sessions, command by command, against the real program."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from programs import Program

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def answers(page: str, program: Program) -> list[Any]:
    """What the commands of a page answer; a refusal ends it."""
    text = (ROOT / page).read_text("utf-8")
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M))
    script = script.replace("http://127.0.0.1:8000", program.client.url)
    head = 'set -e; curl() { command curl --fail-with-body "$@"; printf "\\036"; }\n'
    done = subprocess.run(["bash", "-c", head + script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(part) for part in done.stdout.split("\x1e") if part]


def named(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer.get("onoma", answer)["items"]]


def test_the_session_of_the_readme(runs: Path, tmp_path: Path) -> None:
    program = Program(runs / "tiny", tmp_path / "store.db")
    try:
        stranger, events, hers, put, name, recent, chat, gone, after = answers("README.md", program)
    finally:
        program.kill()
    assert stranger["fallback"] == "popular" and hers["fallback"] is None
    assert events["accepted"] == 2 and named(stranger) != named(hers)
    assert not {"260", "1196"} & set(named(hers))
    assert all(item["reasons"] for item in hers["items"])
    assert put["changed"] == gone["changed"] == 1 and name["item_id"] == "toys9" and name["name"]
    assert "toys9" in named(recent)
    said = [one["choices"][0]["message"]["content"] for one in (chat, after)]
    assert named(chat) and "“Toy Story of Tomorrow”" in said[0]
    assert named(after) and "Tomorrow" not in said[1]


def test_the_session_of_the_documentation(runs: Path, tmp_path: Path) -> None:
    program = Program(runs / "tiny", tmp_path / "store.db")
    try:
        found = answers("docs/serving.md", program)
    finally:
        program.kill()
    assert found[2]["accepted"] == 2 and found[2]["rejected"] == 1
    assert found[1]["fallback"] == "popular" and named(found[1]) != named(found[3])
    assert "toys9" in named(found[6]) and named(found[7])[0] == "toys9"
    assert found[-1]["changed"] == 1 and named(found[8])
