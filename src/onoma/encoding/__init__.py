"""Items to vectors: what a catalogue says about them and what training interactions show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from onoma.encoding.base import Encoder, LogEncoder, TextEncoder
from onoma.errors import OnomaError

if TYPE_CHECKING:
    from onoma.encoding.cache import cached

ENCODERS: dict[str, str] = {
    "tfidf": "onoma.encoding.tfidf:TfIdf",
    "sentence": "onoma.encoding.sentence:Sentence",
    "endpoint": "onoma.encoding.endpoint:Endpoint",
    "collaborative": "onoma.encoding.collaborative:Cooccurrence",
    "als": "onoma.encoding.als:ALS",
    "joined": "onoma.encoding.joined:Joined",
    "smoothed": "onoma.encoding.smoothed:Smoothed",
    "shuffled": "onoma.encoding.shuffled:Shuffled",
    "written": "onoma.encoding.written:Written",
    "augmented": "onoma.encoding.augmented:Augmented",
}

__all__ = ["ENCODERS", "Encoder", "LogEncoder", "TextEncoder", "build", "cached"]


def build(config: str | Mapping[str, Any] | Sequence[Any] | Encoder, **settings: Any) -> Encoder:
    """The encoder a recipe describes.

    Args:
        config: a name of ``ENCODERS``; a mapping with ``name`` and settings; a list of such
            descriptions, which are joined; or an encoder, returned as it is.
        settings: of the class, over those of the mapping.

    Raises:
        OnomaError: an unknown name, an unknown setting or a value out of range.
    """
    if isinstance(config, Encoder):
        return config
    if isinstance(config, str):
        name = config
    elif isinstance(config, Mapping):
        settings = {**{str(k): v for k, v in config.items() if k != "name"}, **settings}
        name = config.get("name", "joined" if "parts" in config else None)
    elif isinstance(config, Sequence):
        name, settings = "joined", {"parts": list(config), **settings}
    else:
        raise OnomaError(f"an encoder is a name, a mapping or a list, not {config!r}")
    if not isinstance(name, str) or name not in ENCODERS:
        raise OnomaError(
            f"no encoder is called {name!r}", where="encoder", fix=f"Known: {', '.join(ENCODERS)}"
        )
    module, _, attribute = ENCODERS[name].partition(":")
    cls: type[Encoder] = getattr(import_module(module), attribute)
    try:
        return cls(**settings)
    except (TypeError, ValueError) as error:
        raise OnomaError(str(error), where=f"encoder {name}") from error


def __getattr__(attribute: str) -> Any:
    if attribute == "cached":
        return import_module("onoma.encoding.cache").cached
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
