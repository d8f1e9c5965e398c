"""The published systems of ``systems.yaml``: how far each is, what was asked, what was measured."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

STATUSES = ("planned", "ready")


def load() -> list[dict[str, Any]]:
    """The rows of ``systems.yaml``.

    Every row has ``id``, ``name``, ``paper``, ``kind`` and ``status``; ``recipe`` where one covers
    it. A system whose target was measured has ``acceptance`` (the target, a line each),
    ``command`` (what measures it), ``part`` (what of the system that is, where it is not all) and
    ``measured``: rows of ``data``, ``hash`` (of the data), ``date``, ``note``, ``figures`` and
    ``holds``, the first that of the command. A system is ready when a recipe covers it or when a
    command measures all of it and all holds.
    """
    import yaml

    rows = yaml.safe_load(files("onoma").joinpath("systems.yaml").read_text("utf-8"))
    return [dict(row) for row in rows]


def tally(row: dict[str, Any]) -> str:
    """How much of what was asked its command measures: ``3 of 3 on amazon-beauty-2014 (index)``."""
    if not row.get("measured"):
        return ""
    part = f" ({row['part']})" if row.get("part") else ""
    first = row["measured"][0]
    return f"{sum(first['holds'])} of {len(first['holds'])} on {first['data']}{part}"


def published(recipe: str) -> dict[str, dict[str, dict[str, float]]]:
    """The published figures a recipe carries, by data set, then by source."""
    from onoma.recipe import Recipe

    return Recipe.load(recipe).published


def headline(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """One figure to print in a row: the first data set's first source."""
    for data, sources in figures.items():
        for values in sources.values():
            for key in ("ndcg@10", "recall@10", *values):
                if key in values:
                    return f"{data} {key} {values[key]:.4f}"
    return ""
