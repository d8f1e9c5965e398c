"""Every recipe that asks a language model, with a local model and through HTTP, in one run.

    onoma models pull smollm2
    ONOMA_DATA=DIR python benchmarks/prompted.py --cases 20

Runs each packaged recipe that names a language model twice on a few test cases: with the local
model, and with the same model behind ``onoma models serve`` on loopback, through the
OpenAI-compatible path. Prints the cost table: calls, tokens, seconds, answers that were of no use,
items outside the catalogue (none may be), how many lists the two paths share, and NDCG beside most
popular and SASRec. The figures say what a run costs, not how good a model of 135 million parameters
is.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onoma.dataset import Split
from onoma.errors import OnomaError
from onoma.recipe import Recipe, packaged
from onoma.recommenders.base import Requests
from onoma.recommenders.registry import recommender
from onoma.run import Run, asked, run

LOCAL = "smollm2"
DATA = {  # recipes that read what films do not have
    "keywords-llm": "amazon-gift-cards-2018-reviews",
    "profile-llm": "amazon-gift-cards-2018-reviews",
}
FILMS = "movielens-100k"


def asking() -> list[str]:
    """Packaged recipes that ask a language model; those that train around its weights do not."""
    named = {name: Recipe.load(name).recommender for name in packaged()}
    return [
        name
        for name, settings in named.items()
        if LOCAL in _words(settings)
        and not getattr(recommender(settings["name"]), "around_weights", False)
    ]


def _words(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(_words, value.values()), set())
    if isinstance(value, list):
        return set().union(*map(_words, value), set())
    return {value} if isinstance(value, str) else set()


def with_model(value: Any, model: str) -> Any:
    """The settings with another language model in the place of the local one."""
    if isinstance(value, dict):
        return {key: with_model(inner, model) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_model(inner, model) for inner in value]
    return {"model": model, "cache": False} if value == LOCAL else value


def prepared(name: str, model: str, data: str, cases: int, beside: list[str]) -> Recipe:
    """The recipe on a few cases, with another model."""
    raw = Recipe.load(name).model_dump(mode="json")
    raw["recommender"] = with_model(raw["recommender"], model)
    raw["data"]["path"] = data
    raw["evaluate"] |= {"cases": cases, "beside": beside, "examples": 0}
    return Recipe.check(raw, name)


def lists(done: Run, parts: Split) -> np.ndarray:
    """int32[n, 10], what the run answers to its test cases."""
    cases, candidates = asked(done.recipe, parts)
    questions = replace(Requests.of(cases), candidates=candidates)
    return done.recommender.recommend(questions, 10).items


@contextmanager
def served() -> Iterator[str]:
    """The address of ``onoma models serve`` while it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "onoma", "models", "serve", LOCAL, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/models").read()
                break
            except OSError:
                time.sleep(0.2)
                if process.poll() is not None:
                    raise SystemExit("onoma models serve did not start") from None
        yield url
    finally:
        process.terminate()
        process.wait(20)


def row(done: Run, found: np.ndarray, n_items: int, before: dict[str, float]) -> dict[str, Any]:
    """What the table says of one run; ``before`` is what the model's meter had counted."""
    metrics = done.metrics
    told = metrics.get("language", {})
    answers = told.get("answers", {})
    usage = told.get("usage", {})
    if hasattr(done.recommender, "languages"):
        # A process has one meter a model, for all recipes that ask it while they recommend; what
        # writes texts before it is fitted counts those.
        usage = {key: value - before.get(key, 0) for key, value in usage.items()}
        # By now its lists were asked for once more, which the next recipe must not be charged with.
        for model in done.recommender.languages():
            before |= model.meter.report()
    key = next(k for k in ("ndcg@10", "ndcg@5", "ndcg@3", "ndcg@1") if k in metrics["test"])
    return {
        "cases": metrics["test"]["cases"],
        "calls": usage.get("calls", 0),
        "read": usage.get("prompt_tokens", 0),
        "reused": usage.get("reused_tokens", 0),
        "written": usage.get("completion_tokens", 0),
        "seconds": usage.get("seconds", 0),
        "no_use": sum(n for what, n in answers.items() if what.startswith("rejected")),
        "outside": int(((found >= n_items) | (found < -1)).sum()) + metrics["invalid_items"],
        "metric": key,
        "value": metrics["test"][key],
        **{name: figures[key] for name, figures in metrics.get("beside", {}).items()},
    }


def main() -> None:
    """Run and print; leaves with 1 where an item was outside the catalogue or a run failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--recipe", action="append", help="only these")
    parser.add_argument("--beside", default="popular,sasrec")
    parser.add_argument("--out", help="keep the runs here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    root = Path(os.environ.get("ONOMA_DATA", "../shared/data"))
    rows: dict[str, dict[str, Any]] = {}
    counted: dict[str, dict[str, float]] = {"local": {}, "http": {}}
    failed = False
    beside = [name for name in options.beside.split(",") if name]
    with tempfile.TemporaryDirectory() as scratch, served() as url:
        out = Path(options.out or scratch)
        for name in options.recipe or asking():
            data = str(root / DATA.get(name, FILMS))
            answers = {}
            for way, model in (("local", LOCAL), ("http", url)):
                recipe = prepared(
                    name, model, data, options.cases, beside if way == "local" else []
                )
                try:
                    done = run(recipe, None, out / name / way, quiet=True, fresh=True)
                    answers[way] = lists(done, done.split)
                except OnomaError as error:
                    print(f"{name}, {way}: {error}", file=sys.stderr)
                    failed = True
                    continue
                rows[f"{name}, {way}"] = row(done, answers[way], done.dataset.n_items, counted[way])
                print(f"{name}, {way}: {json.dumps(rows[f'{name}, {way}'])}", file=sys.stderr)
            if len(answers) == 2:
                same = (answers["local"] == answers["http"]).all(axis=1).mean()
                rows[f"{name}, http"]["same_lists"] = float(same)
    failed |= any(found["outside"] for found in rows.values())
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        head = ("calls", "read", "reused", "written", "seconds", "no_use", "outside", "same_lists")
        print(f"{'':28}" + "".join(f"{word:>11}" for word in (*head, "metric", "value", *beside)))
        for name, found in rows.items():
            cells = [
                f"{found[word]:.4g}" if isinstance(found.get(word), float) else found.get(word, "")
                for word in (*head, "metric", "value", *beside)
            ]
            print(f"{name:28}" + "".join(f"{cell!s:>11}" for cell in cells))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
