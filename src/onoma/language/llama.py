"""A GGUF file on this machine, run by llama.cpp inside this process (package xllamacpp)."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import secrets
import signal
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from onoma.language.answers import checked, chosen, finished, plain, with_tools
from onoma.language.base import (
    BadAnswer,
    Completion,
    Decoding,
    LanguageError,
    LanguageModel,
    Message,
    Usage,
)
from onoma.language.pulling import file_hash

_DEFAULT = Decoding()
_COMPACT = {"whitespace_flexible": False}  # llguidance's option; another grammar lets it be
_PROMPT_CACHE = 256  # MiB for the states of earlier prompts


class LlamaModel(LanguageModel):
    """A model of a GGUF file; a schema is a grammar that llama.cpp decodes under.

    The file is read when the first question comes. Questions are answered one at a time; what the
    next one begins with as the last did is not read again. With tools, the model answers with an
    object that is either a call or a text (see :func:`onoma.language.answers.with_tools`),
    because the chat form of small models has no place for tools.

    Args:
        path: the GGUF file; it has its chat form inside.
        context: tokens that question and answer have together.
        threads: default all cores that this process may use but one, at most eight. Its threads
            wait for each other at every step, so one that has to share its core with another
            program holds up all.
        prices: see :class:`~onoma.language.base.Meter`.

    Raises:
        LanguageError: no such file, or xllamacpp is not installed.
    """

    able: ClassVar[frozenset[str]] = frozenset({"complete", "generate_items"})

    def __init__(
        self,
        path: str | Path,
        context: int = 4096,
        threads: int | None = None,
        prices: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(prices)
        self.path = Path(path)
        if context < 64:
            raise LanguageError("a context of fewer than 64 tokens", where=str(path))
        try:
            digest = file_hash(self.path)
        except OSError as error:
            raise LanguageError(
                f"cannot be read ({error.strerror})", where=str(path), fix="Name a GGUF file"
            ) from None
        self.identity, self.context = f"gguf:{digest[:16]}", context
        self.threads = threads or max(1, min(_cores() - 1, 8))
        self._lock = threading.Lock()
        self._held: list[Any] = []  # the engine; emptied at exit, before its threads are gone
        self._close = weakref.finalize(self, self._held.clear)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        decoding: Decoding = _DEFAULT,
    ) -> Completion:
        if tools and schema is not None:
            raise ValueError("an answer follows a schema or calls tools, not both")
        asked, held = (plain(messages), schema) if not tools else with_tools(messages, tools)
        body = self._body(asked, decoding)
        if held is not None:
            body["grammar"] = self._grammar(held)
        began = time.perf_counter()
        with self._lock:
            answer = self._asked("handle_chat_completions", body)
        usage = self._usage(answer, time.perf_counter() - began)
        self.meter.add(usage)
        choice = answer["choices"][0]
        text = choice["message"].get("content") or ""
        finished(choice["finish_reason"], text, self.identity)
        if not text.strip():
            raise BadAnswer("empty", "the answer is empty", where=self.identity)
        if held is None:
            return Completion(text, usage=usage)
        data = checked(text, held, self.identity)
        if not tools:
            return Completion(text, data, usage=usage)
        said, calls = chosen(data, len(messages))
        return Completion(said, tools=calls, usage=usage)

    def stream(
        self, messages: Sequence[Message], *, decoding: Decoding = _DEFAULT
    ) -> Iterator[str]:
        body = self._body(plain(messages), decoding)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        enough = threading.Event()

        def piece(chunk: Any) -> bool:
            came.put(chunk)
            return enough.is_set()

        def write() -> None:
            try:
                with self._lock:
                    if not enough.is_set():
                        self._engine().handle_chat_completions(body, piece)
            except BaseException as error:  # told where the pieces are read
                came.put(error)
            came.put(None)

        began = time.perf_counter()
        writer = threading.Thread(target=write, name="llama-stream", daemon=True)
        writer.start()
        text, reason = "", None
        last: dict[str, Any] = {}
        try:
            while (chunk := came.get()) is not None:
                if isinstance(chunk, Exception) or "error" in chunk or "code" in chunk:
                    raise self._refusal(chunk)
                last = chunk if chunk.get("usage") else last
                for choice in chunk.get("choices") or ():
                    reason = choice.get("finish_reason") or reason
                    new = (choice.get("delta") or {}).get("content")
                    if new:
                        text += new
                        yield new
        finally:
            enough.set()
            writer.join()
            self.meter.add(self._usage(last, time.perf_counter() - began))
        finished(reason, text, self.identity)
        if not text.strip():
            raise BadAnswer("empty", "the answer is empty", where=self.identity)

    def continue_text(self, prompt: str, decoding: Decoding = _DEFAULT) -> Completion:
        """What follows a bare text, without the chat form.

        Raises:
            BadAnswer: as of :meth:`complete`.
        """
        body = self._sampling(decoding) | {"prompt": prompt}
        began = time.perf_counter()
        with self._lock:
            answer = self._asked("handle_completions", body)
        usage = self._usage(answer, time.perf_counter() - began)
        self.meter.add(usage)
        choice = answer["choices"][0]
        finished(choice["finish_reason"], choice["text"], self.identity)
        return Completion(choice["text"], usage=usage)

    def close(self) -> None:
        """Let go of the engine and its threads."""
        with self._lock:
            self._close()

    def _body(self, messages: Sequence[Message], decoding: Decoding) -> dict[str, Any]:
        if not messages:
            raise ValueError("no messages")
        return self._sampling(decoding) | {"messages": list(messages)}

    def _sampling(self, decoding: Decoding) -> dict[str, Any]:
        # Nothing but the temperature bends what the model says: llama.cpp's own cuts are off.
        return {
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature,
            "seed": decoding.seed,
            "stop": list(decoding.stop),
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
        }

    def _grammar(self, schema: Mapping[str, Any]) -> str:
        # As a grammar and not as a response format: llama.cpp reads an answer to that with a
        # parser of its own, which throws an answer away that ends at the token limit. White space
        # that no JSON needs is not allowed: small models love to write it for ever.
        import xllamacpp

        spelled = {**schema, "x-guidance": _COMPACT}
        # llama.cpp decodes freely under a grammar that it cannot read, so it is read here first.
        wrong = self._unreadable(json.dumps(spelled))
        if wrong:
            said = " ".join(wrong.split())[:200]
            raise LanguageError(f"the schema cannot be decoded under ({said})", where=self.identity)
        return str(xllamacpp.json_schema_to_grammar(spelled))

    def _unreadable(self, schema: str) -> str:
        try:
            from llguidance import LLMatcher
        except ImportError:
            raise LanguageError(
                "answers under a schema need llguidance",
                where=self.identity,
                fix="pip install 'onoma[llm]'",
            ) from None
        return str(LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema)) or "")

    def _asked(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = getattr(self._engine(), verb)(body)
        except (ValueError, RuntimeError, TypeError) as error:
            raise self._refusal(error) from None
        if "choices" not in answer:
            raise self._refusal(answer)
        return dict(answer)

    def _refusal(self, said: Any) -> BadAnswer | LanguageError:
        """What llama.cpp's own error means."""
        if isinstance(said, LanguageError):
            return said
        if isinstance(said, Exception):
            return LanguageError(f"llama.cpp refuses the question ({said})", where=self.identity)
        told = said.get("error") or said
        message = told.get("message", "no message") if isinstance(told, dict) else str(told)
        if isinstance(told, dict) and told.get("type") == "exceed_context_size_error":
            return BadAnswer("context", message, where=self.identity)
        return LanguageError(f"llama.cpp refuses the question ({message})", where=self.identity)

    def _usage(self, answer: Mapping[str, Any], seconds: float) -> Usage:
        used = answer.get("usage") or {}
        details = used.get("prompt_tokens_details") or {}
        return Usage(
            prompt=used.get("prompt_tokens", 0),
            reused=details.get("cached_tokens", 0),
            completion=used.get("completion_tokens", 0),
            calls=1,
            seconds=seconds,
        )

    def _engine(self) -> Any:
        """The engine, started when it is first needed; the lock is held."""
        if not self._held:
            if not self._close.alive:
                raise LanguageError("the model is closed", where=self.identity)
            self._held.append(self._started())
        return self._held[0]

    def _started(self) -> Any:
        try:
            import xllamacpp
        except ImportError:
            raise LanguageError(
                "xllamacpp is not installed", where=str(self.path), fix="pip install 'onoma[llm]'"
            ) from None
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.n_ctx = self.context
        params.n_parallel = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.cache_ram_mib = _PROMPT_CACHE
        params.prefill_assistant = False
        params.force_pure_content_parser = True
        params.verbosity = -1
        # The engine also listens on loopback. Nobody is to use that: a key that is told to none.
        params.api_keys = [secrets.token_hex(32)]
        params.ui = params.endpoint_slots = params.endpoint_props = False
        try:
            with _own_signals():
                return xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise LanguageError(
                f"llama.cpp cannot load the file ({error})",
                where=str(self.path),
                fix="Is it a whole GGUF file with a chat template?",
            ) from None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the handlers of Ctrl-C and of the end: llama.cpp takes them when it starts."""
    python = ctypes.pythonapi
    python.PyOS_getsig.restype = python.PyOS_setsig.restype = ctypes.c_void_p
    python.PyOS_setsig.argtypes = [ctypes.c_int, ctypes.c_void_p]
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [python.PyOS_getsig(int(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            python.PyOS_setsig(int(number), handler)
