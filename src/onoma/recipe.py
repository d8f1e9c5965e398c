"""The fifth contract: one validated YAML file is one experiment."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onoma.errors import OnomaError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST = 1_000_000  # bytes of a recipe file; anything larger is not one
_APART: Any = {"data": {"path"}, "seed": True, "about": True, "system": True, "published": True}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    """Where the data is and how it is cut.

    Attributes:
        path: a folder or file, or ``packaged:movielens``; ``--data`` sets it.
        k_core: drop users and items with fewer interactions, repeatedly; 0 keeps all.
        min_rating: drop interactions rated lower.
        protocol: how train, valid and test are cut.
        ties: order inside equal timestamps of a user.
        split_seed: of shuffled ties and random cuts; the same for all seeds of a recipe.
        valid: share, where the protocol has one.
        test: share, where the protocol has one.
        liked_above: in protocol ``likes``, a rating that is higher is a like.
        seen: in protocol ``likes``, items of a question's history.
    """

    path: str | None = None
    k_core: int = Field(default=0, ge=0)
    min_rating: float | None = None
    protocol: Literal["leave-one-out", "temporal", "ratio", "cold-item", "cold-user", "likes"] = (
        "leave-one-out"
    )
    ties: Literal["file", "shuffled", "id"] = "file"
    split_seed: int = 0
    valid: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    liked_above: float = 3.0
    seen: int = Field(default=10, ge=1)


class CandidatesSection(_Section):
    """A short list a case in place of the whole catalogue, for systems that cannot rank it all.

    Attributes:
        negatives: items beside the targets that the user never took.
        drawn: ``uniform`` over the catalogue, by ``popularity`` in training, or from what the user
            ``disliked``; then users with no more of these than ``negatives`` are not asked.
        disliked: the best rating that counts as disliked; ``data.min_rating`` does not touch it.
        seed: of the draw; the same for all seeds of a recipe.
    """

    negatives: int = Field(default=19, ge=1)
    drawn: Literal["uniform", "popularity", "disliked"] = "uniform"
    disliked: float = 2.0
    seed: int = 0

    def told(self) -> str:
        """For metrics files."""
        how = f"rated {self.disliked:g} or less" if self.drawn == "disliked" else self.drawn
        return f"the target and {self.negatives} negatives ({how}, seed {self.seed})"


class EvaluateSection(_Section):
    """What is measured.

    Attributes:
        ks: cut-offs.
        mask_seen: whether the headline figures leave out items of the history; the other way is
            printed beside them.
        examples: users shown with titles in the report.
        modes: ways of answering that are measured, the first of which makes the headline; all of
            the recommender where not given.
        cases: test and validation cases at most, drawn by a fixed seed; all where not given.
        history: items that a test case's history has at least.
        candidates: rank a short list a case; the whole catalogue where not given.
        beside: recipes that are fitted on the same split and measured on the same cases; one of
            the same recommender takes all settings that it does not state itself from this one.
        query: what test users ask in words: ``reviews``, those they wrote before and nothing of
            the target's; users who wrote nothing else are left out. Nothing where not given.
    """

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 5, 10, 20, 50), min_length=1)
    mask_seen: bool = True
    examples: int = Field(default=8, ge=0)
    modes: tuple[str, ...] | None = Field(default=None, min_length=1)
    cases: int | None = Field(default=None, ge=1)
    history: int = Field(default=1, ge=1)
    candidates: CandidatesSection | None = None
    beside: tuple[str, ...] = ()
    query: Literal["reviews"] | None = None


class Recipe(_Section):
    """An experiment.

    Attributes:
        name: used for run directories.
        about: one sentence.
        system: the published system it covers (``S033``), if any.
        data: the data and its cut.
        recommender: ``name`` and the settings of that class, ``encoder``, ``index`` and ``train``
            among them where it has them.
        evaluate: what is measured.
        seed: of everything random.
        published: figures to print beside ours, by data set name, then by source.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    about: str = ""
    system: str | None = None
    data: DataSection = DataSection()
    recommender: dict[str, Any]
    evaluate: EvaluateSection = EvaluateSection()
    seed: int = Field(default=0, ge=0, lt=2**31)
    published: dict[str, dict[str, dict[str, float]]] = {}

    @classmethod
    def load(cls, name: str, overrides: list[str] | None = None) -> Recipe:
        """Read a packaged recipe by name or a YAML file by path, then apply ``key=value`` words.

        Raises:
            OnomaError: no such recipe, not YAML, an unknown key or a wrong value.
        """
        text, where = _read(name)
        try:
            raw = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "too deep or malformed"
            raise OnomaError(f"not valid YAML ({problem})", where=f"{where}{line}") from error
        if not isinstance(raw, dict):
            raise OnomaError("a recipe is a mapping of sections", where=where)
        for word in overrides or []:
            override(raw, word)
        return cls.check(raw, where)

    @classmethod
    def check(cls, raw: dict[str, Any], where: str) -> Recipe:
        """Validate a mapping.

        Raises:
            OnomaError: an unknown key or a wrong value, named by its dotted path.
        """
        try:
            recipe = cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise OnomaError(
                f"{key}: {first['msg']}",
                where=where,
                fix=f"The sections are {', '.join(cls.model_fields)}",
            ) from error
        if not isinstance(recipe.recommender.get("name"), str):
            raise OnomaError("recommender.name is missing", where=where)
        if isinstance(stages := recipe.recommender.get("stages"), list):
            whole = {**recipe.recommender, "stages": [_stage(stage, where) for stage in stages]}
            recipe = recipe.model_copy(update={"recommender": whole})
        return recipe

    def changed(self) -> dict[str, Any]:
        """Settings other than the packaged recipe's of this name, by dotted key.

        The data's path and the seed aside; empty where none of this name is packaged.
        """
        if self.name not in packaged():
            return {}
        ours, theirs = (
            dict(_flat(one.model_dump(mode="json", exclude=_APART)))
            for one in (self, Recipe.load(self.name))
        )
        return {
            key: ours.get(key) for key in sorted({*ours, *theirs})
            if key not in ours or key not in theirs or ours[key] != theirs[key]
        }  # fmt: skip

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _flat(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its dotted key."""
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _stage(stage: Any, where: str) -> Any:
    """A stage of a cascade with its settings: ``RECIPE`` and ``{RECIPE: changes}`` are looked up.

    Raises:
        OnomaError: no such recipe, or changes that are no mapping.
    """
    if isinstance(stage, dict) and len(stage) == 1 and "name" not in stage:
        name, changes = next(iter(stage.items()))
    elif isinstance(stage, str):
        name, changes = stage, {}
    else:
        return stage
    if not isinstance(changes, dict | None):
        raise OnomaError(f"stage {name!r}: {changes!r} is no mapping of settings", where=where)
    return {**Recipe.load(str(name)).recommender, **(changes or {})}


def packaged() -> list[str]:
    """Names of the recipes that come with Onoma."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in files("onoma").joinpath("recipes").iterdir()
        if entry.name.endswith(".yaml")
    )


def _read(name: str) -> tuple[str, str]:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in packaged():
            raise OnomaError(
                f"no recipe is called {name!r}",
                fix=f"Use a path ending in .yaml or one of {', '.join(packaged())}",
            )
        return files("onoma").joinpath(f"recipes/{name}.yaml").read_text("utf-8"), name
    try:
        if path.stat().st_size > _LARGEST:
            raise OnomaError("too large for a recipe", where=name)
        return path.read_text("utf-8"), name
    except UnicodeDecodeError as error:
        raise OnomaError(f"not UTF-8 text (byte {error.start})", where=name) from error
    except OSError as error:
        raise OnomaError(f"cannot be read ({error.strerror})", where=name) from error


def override(raw: dict[str, Any], word: str) -> None:
    """Set ``a.b.c=value``; the value is YAML.

    Raises:
        OnomaError: no equals sign, a value that is no YAML, or a path through a plain value.
    """
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise OnomaError(f"{word!r} is not key=value", fix="For example: recommender.width=128")
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise OnomaError(f"{key!r}: {parent!r} holds a value, not a section")
        place = below
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise OnomaError(f"the value of {key!r} is not valid YAML: {value!r}") from error
