"""One word or a mapping to a language model: what a recipe says of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onoma.errors import OnomaError
from onoma.language.base import LanguageModel
from onoma.language.tape import Tape
from onoma.language.taped import Taped

if TYPE_CHECKING:
    from onoma.language.torch_model import TorchModel

CASSETTE = "cassette:"
_Price = Literal["prompt", "reused", "completion"]


class Settings(BaseModel):
    """What a mapping may say.

    Attributes:
        model: ``smollm2``, a GGUF file, a transformers folder, the address of a service with an
            OpenAI interface (``http://localhost:8000/v1#MODELNAME``), or ``cassette:FILE``.
        record: a file that takes down every answer, to be replayed as ``cassette:FILE``.
        note: for the first line of that file.
        questions: whether that file has the questions too, for people to read.
        cache: whether answers at temperature 0 are kept on disk for all runs; it does not touch
            answers that are recorded.
        prices: money for a million tokens.
        context: tokens that a GGUF file's question and answer have together; answers are kept
            for each size apart.
        threads: of llama.cpp.
        device: of PyTorch, such as ``cpu`` or ``cuda``.
        adapter: a folder of low-rank updates, as a tuned recommender leaves it; PyTorch alone then
            answers.
        concurrency: requests to a service that may be under way at once.
        timeout: seconds to wait for an answer of a service.
        deadline: seconds for a question with all its tries and waits.
        retries: further tries after a refusal that may pass.
        key_env: the environment variable that has the service's key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    record: str | None = Field(default=None, min_length=1)
    note: str = ""
    questions: bool = False
    cache: bool = True
    prices: dict[_Price, float] = {}
    context: int | None = Field(default=None, ge=64)
    threads: int | None = Field(default=None, ge=1)
    device: str | None = None
    adapter: str | None = Field(default=None, min_length=1)
    concurrency: int | None = Field(default=None, ge=1, le=1024)
    timeout: float | None = Field(default=None, gt=0)
    deadline: float | None = Field(default=None, gt=0)
    retries: int | None = Field(default=None, ge=0, le=100)
    key_env: str | None = None

    def given(self, *names: str) -> dict[str, Any]:
        """Those of these settings that were set."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Kind:
    """One of the forms of ``model``.

    Attributes:
        form: how it looks.
        takes: settings of this kind alone.
    """

    form: str
    takes: tuple[str, ...]


_TAPES = ("record", "note", "questions", "cache", "prices")
KINDS = {
    "packaged": Kind("smollm2", ("context", "threads", "device", "adapter")),
    "gguf": Kind("PATH.gguf", ("context", "threads")),
    "folder": Kind("a folder with config.json", ("device", "adapter")),
    "service": Kind(
        "http://HOST/v1#MODELNAME", ("concurrency", "timeout", "deadline", "retries", "key_env")
    ),
    "cassette": Kind("cassette:FILE", ()),
}


def open_model(spec: str | Mapping[str, Any] | LanguageModel) -> LanguageModel:
    """The language model that a recipe describes.

    Args:
        spec: a word as of :attr:`Settings.model`; a mapping of :class:`Settings`; or a model,
            returned as it is.

    Returns:
        The model; behind a tape where it is recorded, cached (which is so unless ``cache`` is
        false) or replayed. Weights are loaded when they are first needed.

    Raises:
        OnomaError: an unknown word or setting, or a model that is not there.
    """
    if isinstance(spec, LanguageModel):
        return spec
    settings = _checked({"model": spec} if isinstance(spec, str) else spec)
    kind = _kind(settings.model)
    takes = (*(() if kind == "cassette" else _TAPES), *KINDS[kind].takes)
    foreign = settings.model_fields_set - {"model", *takes}
    if foreign:
        raise OnomaError(
            f"{sorted(foreign)[0]} is no setting of {KINDS[kind].form}",
            where="language model",
            fix=f"It takes {', '.join(takes)}" if takes else "It takes no settings",
        )
    if kind == "cassette":
        return Taped(None, settings.model.removeprefix(CASSETTE))
    model = _opened(kind, settings)
    if settings.record is not None:
        tape = Tape(settings.record, questions=settings.questions)
        return Taped(model, tape, note=settings.note)
    return _cached(model) if settings.cache else model


def _checked(spec: object) -> Settings:
    if not isinstance(spec, Mapping):
        raise OnomaError(f"a word or a mapping, not {spec!r}", where="language model")
    try:
        return Settings.model_validate(dict(spec))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        if first["type"] == "extra_forbidden":
            known = f"The settings are {', '.join(Settings.model_fields)}"
        elif key.startswith("prices"):
            known = f"Prices are those of {', '.join(get_args(_Price))}"
        else:
            known = f"model is one of: {_forms()}" if key == "model" else ""
        raise OnomaError(
            f"{key}: {first['msg']}", where="language model", fix=known or None
        ) from None


def _kind(word: str) -> str:
    from onoma.language.pulling import PACKAGED

    if word.startswith(CASSETTE):
        return "cassette"
    if urlsplit(word).scheme in ("http", "https"):
        return "service"
    if word in PACKAGED and PACKAGED[word].kept_as.endswith(".gguf"):
        return "packaged"
    path = Path(word)
    if path.suffix == ".gguf":
        return "gguf"
    if (path / "config.json").is_file():
        return "folder"
    raise OnomaError(
        f"no language model is called {word!r}", where="language model", fix=f"Give {_forms()}"
    )


def _forms() -> str:
    *first, last = (kind.form for kind in KINDS.values())
    return f"{', '.join(first)} or {last}"


def _opened(kind: str, settings: Settings) -> LanguageModel:
    given = settings.given(*KINDS[kind].takes)
    prices = {str(name): price for name, price in settings.prices.items()}
    if kind == "packaged":
        from onoma.language.local import Local
        from onoma.language.pulling import needed

        if settings.adapter is not None:
            from onoma.language.torch_model import TorchModel

            torch_only = settings.given("device", "adapter")
            return TorchModel(needed(settings.model) / "torch", prices=prices, **torch_only)
        return Local(needed(settings.model), prices=prices, **given)
    if kind == "gguf":
        from onoma.language.llama import LlamaModel

        return LlamaModel(settings.model, prices=prices, **given)
    if kind == "folder":
        from onoma.language.torch_model import TorchModel

        return TorchModel(settings.model, prices=prices, **given)
    from onoma.language.endpoint import Endpoint

    url, _, name = settings.model.partition("#")
    return Endpoint(url, name or None, prices=prices, **given)


def _cached(model: LanguageModel) -> LanguageModel:
    """The model behind the disk's tape of it; bare where the disk takes nothing."""
    from onoma.dataset.files import cache_folder

    # What is too long for one context is not for another.
    of = f"{model.identity} {model.context}" if model.context else model.identity
    name = hashlib.sha256(of.encode()).hexdigest()[:20]
    path = cache_folder() / "language" / f"{name}.jsonl"
    try:
        return Taped(model, path, drawn=False)
    except OnomaError:
        # Damaged, or not to be written: nobody knows this file, so it is put aside.
        with suppress(OSError):
            os.replace(path, path.with_suffix(".damaged"))
    with suppress(OnomaError):
        return Taped(model, path, drawn=False)
    return model


def torch_model(spec: str | Mapping[str, Any]) -> TorchModel:
    """The PyTorch engine of a packaged model or of a folder, for training around it.

    Args:
        spec: as of :func:`open_model`, one whose weights are here.

    Raises:
        OnomaError: a model without weights that PyTorch reads.
    """
    from onoma.language.local import Local
    from onoma.language.torch_model import TorchModel

    given = {"model": spec} if isinstance(spec, str) else dict(spec)
    model = open_model(given | {"cache": False})
    if isinstance(model, Local):
        return model.weigher
    if not isinstance(model, TorchModel):
        raise OnomaError(
            f"{given.get('model')!r} has no weights to train around",
            where="language model",
            fix=f"Give {KINDS['packaged'].form} or {KINDS['folder'].form}",
        )
    return model
