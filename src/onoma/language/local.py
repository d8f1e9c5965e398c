"""A packaged model with both of its engines: one that writes, one that weighs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onoma.language.base import (
    Completion,
    Decoding,
    LanguageError,
    LanguageModel,
    Message,
    Weights,
)

if TYPE_CHECKING:
    from onoma.language.llama import LlamaModel
    from onoma.language.torch_model import TorchModel


class Local(LanguageModel):
    """A pulled model: llama.cpp completes and streams, PyTorch weighs, embeds and names items.

    Both compute from the same weights, quantised there and in float32 here; each is loaded when
    it is first needed. One identity, by the hash of the GGUF file, covers both.

    Args:
        folder: with ``model.gguf``, ``torch/`` and ``pulled.json``, as
            :func:`onoma.language.pulling.pull` leaves it.
        prices: of :class:`~onoma.language.base.Meter`.
        context: tokens that question and answer have together in llama.cpp.
        threads: of llama.cpp; default one for each core.
        device: of PyTorch; default the accelerator if there is one.

    Raises:
        LanguageError: the folder is not that of a pulled model.
    """

    able = frozenset({"complete", "logprobs", "embed", "generate_items"})

    def __init__(
        self,
        folder: str | Path,
        *,
        prices: Mapping[str, float] | None = None,
        context: int = 4096,
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(prices)
        self.folder, self.context = Path(folder), context
        self._threads, self._device = threads, device
        try:
            pulled = json.loads((self.folder / "pulled.json").read_text("utf-8"))
            self.identity = f"local:{pulled['sha256'][:16]}"
        except (OSError, ValueError, KeyError, TypeError):
            raise LanguageError(
                "not the folder of a pulled model",
                where=str(folder),
                fix="onoma models pull smollm2",
            ) from None
        self._lock = threading.Lock()

    @cached_property
    def _llama(self) -> LlamaModel:
        from onoma.language.llama import LlamaModel

        return LlamaModel(self.folder / "model.gguf", context=self.context, threads=self._threads)

    @cached_property
    def _torch(self) -> TorchModel:
        from onoma.language.torch_model import TorchModel

        return TorchModel(self.folder / "torch", device=self._device)

    @property
    def writer(self) -> LlamaModel:
        """The engine that writes."""
        with self._lock:
            model = self._llama
        model.meter = self.meter
        return model

    @property
    def weigher(self) -> TorchModel:
        """The engine that weighs."""
        with self._lock:
            model = self._torch
        model.meter = self.meter
        return model

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> Completion:
        return self.writer.complete(messages, schema=schema, tools=tools, decoding=decoding)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> Iterator[str]:
        return self.writer.stream(messages, decoding=decoding)

    def logprobs(self, prompt: str | Sequence[Message], continuations: Sequence[str]) -> Weights:
        return self.weigher.logprobs(prompt, continuations)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.weigher.embed(texts)

    def generate_items(
        self, messages: Sequence[Message], names: Sequence[str], k: int = 1
    ) -> list[int]:
        return self.weigher.generate_items(messages, names, k)

    def close(self) -> None:
        """Let go of both engines."""
        for name in ("_llama", "_torch"):
            if name in self.__dict__:
                self.__dict__[name].close()
