"""Every recipe that asks a language model, from a tape: recorded by the real one, replayed by none.

    onoma models pull smollm2
    python tests/recommenders/replaying.py record [RECIPE ...]   # writes cassettes/
    python tests/recommenders/replaying.py replay [RECIPE ...]   # prints the lists as JSON

Tapes hold hashes of questions and the answers of SmolLM2-135M-Instruct, nothing that anybody wrote
by hand and no data. Films are those of ``packaged:movielens``; recipes that read reviews need the
folder named by ``ONOMA_DATA``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

LOCAL = "smollm2"
TAPES = Path(__file__).parent / "cassettes"
LISTS = TAPES / "lists.json"
FILMS = "packaged:movielens"
REVIEWS = {"keywords-llm", "profile-llm"}
GIFTS = "amazon-gift-cards-2018-reviews"
CASES = 4
# What a tape need not hold: a stage that trains for minutes, texts about a hundred items, and the
# vectors of all titles.
SMALLER: dict[str, list[str]] = {
    "llm-rec": ["recommender.encoder.items=6", "recommender.encoder.of=tfidf"],
    "titles-llm": ["recommender.encoder=tfidf"],
}
INSTEAD = {"flagship": {"name": "markov"}}


def asking() -> list[str]:
    """Packaged recipes that ask the language model; those that train around its weights do not."""
    from onoma.recipe import Recipe, packaged
    from onoma.recommenders.registry import recommender

    named = {name: Recipe.load(name).recommender for name in packaged()}
    return [
        name
        for name, settings in named.items()
        if LOCAL in _words(settings)
        and not getattr(recommender(settings["name"]), "around_weights", False)
    ]


def data_of(name: str) -> str:
    """What the recipe is run on here; a folder that may be missing."""
    if name not in REVIEWS:
        return FILMS
    return str(Path(os.environ.get("ONOMA_DATA", "../shared/data")) / GIFTS)


def lists(name: str, model: Any) -> list[list[str]]:
    """The ids that the recipe answers to a few test cases when it asks ``model``."""
    from dataclasses import replace

    from onoma.recipe import Recipe
    from onoma.recommenders.base import Requests
    from onoma.run import asked, build, cut, load_data

    raw = Recipe.load(name, SMALLER.get(name)).model_dump(mode="json")
    raw["data"]["path"] = data_of(name)
    raw["recommender"] = _with(raw["recommender"], model)
    raw["evaluate"]["cases"] = CASES
    if (short := raw["evaluate"]["candidates"]) is not None:
        short["negatives"] = min(short["negatives"], 19)
    recipe = Recipe.check(raw, name)
    parts = cut(recipe, load_data(recipe))
    cases, candidates = asked(recipe, parts)
    questions = replace(Requests.of(cases), candidates=candidates)
    return build(recipe, quiet=True).fit(parts).recommend(questions, 10).ids(parts.dataset)


def _words(value: Any) -> set[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {value} if isinstance(value, str) else set().union(*map(_words, inner), set())


def _with(value: Any, model: Any) -> Any:
    if isinstance(value, dict):
        if value.get("name") in INSTEAD:
            return INSTEAD[value["name"]]
        return {key: _with(inner, model) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with(inner, model) for inner in value]
    return model if value == LOCAL else value


def main() -> None:
    """Record or replay."""
    verb, *names = sys.argv[1:]
    names = names or asking()
    if verb == "replay":
        found = {name: lists(name, f"cassette:{TAPES / name}.jsonl") for name in names}
        print(json.dumps(found))
        return
    TAPES.mkdir(exist_ok=True)
    known = json.loads(LISTS.read_text("utf-8")) if LISTS.is_file() else {}
    for name in names:
        tape = TAPES / f"{name}.jsonl"
        tape.unlink(missing_ok=True)
        print(name, file=sys.stderr)
        known[name] = lists(name, {"model": LOCAL, "record": str(tape)})
        LISTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
