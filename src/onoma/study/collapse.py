"""``onoma study collapse``: how much of a wide table is used, and what it begins as."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onoma import encoding
from onoma.dataset.files import write_text
from onoma.errors import OnomaError
from onoma.recipe import Recipe
from onoma.recommenders.bridged.llminit import LLMInit
from onoma.run import build, cut, load_data, run

BEGINNINGS = ("random", "var", "uni", "rand", "pca", "projection", "shuffled")
KEYS = ("ndcg@10", "recall@20")


def collapse(
    data: str,
    out: str | Path,
    *,
    widths: Sequence[int] = (16, 32, 64, 128, 256),
    beginnings: Sequence[str] = BEGINNINGS,
    seeds: Sequence[int] = (0,),
    recipe: str = "llminit",
    overrides: Sequence[str] = (),
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train one graph model at several widths from several beginnings and look at its item table.

    A table has collapsed where most of its directions carry next to nothing: its effective rank
    stays behind as it gets wider (the diagnosis of S070). Finished runs below ``out`` are kept.

    Args:
        data: as for :func:`onoma.run.run`.
        out: one run directory a width, beginning and seed, and ``collapse.json``, go here.
        widths: of the table.
        beginnings: of :data:`BEGINNINGS`: ``random`` is the backbone, ``shuffled`` the rule of
            the recipe on texts of other items, the others are rules of selection.
        seeds: of all runs.
        recipe: of LLMInit.
        overrides: ``key=value`` words for it; the backbone follows them.
        quiet: no progress bars.
        tell: called with a line after each run.

    Returns:
        ``dataset`` and ``rows``: ``width``, ``beginning``, ``seeds``, means of :data:`KEYS`,
        ``effective_rank``, ``used`` (its share of the width), ``directions`` (that hold 90 % of
        the variance), ``first`` (the effective rank before training; None for ``random``) and
        ``best_epoch``.

    Raises:
        OnomaError: an unknown beginning, or a table wider than the texts' vectors.
    """
    from onoma.study.language import ARMS

    unknown = [name for name in beginnings if name not in BEGINNINGS]
    if unknown or not widths:
        what = f"no beginning is called {unknown[0]!r}" if unknown else "no widths"
        raise OnomaError(what, where="study collapse", fix=f"Known: {', '.join(BEGINNINGS)}")
    whole = Recipe.load(recipe, list(overrides))
    if whole.recommender["name"] != "llminit":
        raise OnomaError(f"{recipe} is no recipe of llminit", where="study collapse")
    _check(whole, data, widths, beginnings)
    out = Path(out)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for width in widths:
        for name in beginnings:
            found = []
            for seed in seeds:
                raw = whole.model_dump(mode="json", exclude={"published", "system", "about"})
                arm = {"random": "without", "shuffled": "shuffled"}.get(name, "with")
                settings = {**whole.recommender, "width": width}
                if arm == "with":
                    settings["rule"] = name
                raw["recommender"] = ARMS["llminit"][arm](settings, seed)
                raw |= {"name": f"{whole.name}-{name}", "seed": seed}
                folder = out / f"width{width}" / name / f"seed{seed}"
                done = run(Recipe.check(raw, name), data, folder, quiet=quiet)
                about = done.metrics["dataset"]
                found.append(done.metrics)
            row = _row(width, name, found)
            rows.append(row)
            tell(
                f"width {width}, {name}: effective rank {row['effective_rank']:.1f}, "
                f"recall@20 {row['recall@20']:.4f}"
            )
    result = {"dataset": about, "recipe": whole.name, "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=2) + "\n", out / "collapse.json")
    return result


def _check(whole: Recipe, data: str, widths: Sequence[int], beginnings: Sequence[str]) -> None:
    """Refuse bad settings and tables wider than the texts' vectors before anything is trained."""
    raw = whole.model_dump(mode="json")
    raw["data"]["path"] = data
    for width in sorted(widths):
        raw["recommender"]["width"] = width
        recipe = Recipe.check(raw, whole.name)
        model = build(recipe)
    if set(beginnings) == {"random"}:
        return
    # The widest is the last; what begins that one begins all.
    assert isinstance(model, LLMInit)
    parts = cut(recipe, load_data(recipe))
    # Kept on disk, where the runs find them.
    content = encoding.cached(encoding.build(model.settings.encoder), parts)
    model.first(content, parts.train_counts)


def _row(width: int, name: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def mean(*path: str) -> float:
        total = 0.0
        for metrics in found:
            here: Any = metrics
            for key in path:
                here = here[key]
            total += float(here)
        return total / len(found)

    begun = "first" in found[0]["training"]["spectrum"]
    return {
        "width": width,
        "beginning": name,
        "seeds": len(found),
        **{key: mean("test", key) for key in KEYS},
        **{key: mean("training", "spectrum", key) for key in ("effective_rank", "used",
                                                              "directions")},
        "first": mean("training", "spectrum", "first", "effective_rank") if begun else None,
        "best_epoch": mean("training", "best_epoch"),
    }  # fmt: skip
