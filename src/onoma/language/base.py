"""The fourth contract: a language model that completes, weighs, embeds and names items."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from onoma.errors import OnomaError

Message = Mapping[str, Any]  # OpenAI's form: role, content, and tool_calls or tool_call_id
T = TypeVar("T")
R = TypeVar("R")


class LanguageError(OnomaError):
    """A language model that cannot be used: unreachable, refused at the door, or not able to."""


class BadAnswer(OnomaError):
    """One answer that is of no use; others may be. Callers count it and go on without it.

    Attributes:
        kind: ``timeout``, ``refusal``, ``cut`` (ended at the token limit or broke off),
            ``malformed`` (not what the schema asks for), ``empty`` or ``context`` (the question
            is longer than the model reads).
        text: what came, as far as it came.
    """

    KINDS = ("timeout", "refusal", "cut", "malformed", "empty", "context")

    def __init__(self, kind: str, what: str, *, where: str, text: str = "") -> None:
        super().__init__(what, where=where)
        self.kind, self.text = kind, text


@dataclass(frozen=True)
class Usage:
    """What an answer took.

    Attributes:
        prompt: tokens read, those reused included.
        reused: of these, tokens that a prefix cache already held.
        completion: tokens written.
        calls: requests that reached a model.
        retries: further tries after a refusal that may pass.
        replayed: answers from a tape; they cost nothing and count no tokens.
        seconds: spent waiting.
    """

    prompt: int = 0
    reused: int = 0
    completion: int = 0
    calls: int = 0
    retries: int = 0
    replayed: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass
class Meter:
    """Adds up what a model was used for; safe to use from several threads.

    Attributes:
        prices: money for a million tokens: ``prompt``, ``reused`` (default as prompt) and
            ``completion``; empty where the model is free.
        total: of everything since the last :meth:`reset`.
    """

    prices: Mapping[str, float] = field(default_factory=dict)
    total: Usage = field(default_factory=Usage)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _boxes: threading.local = field(default_factory=threading.local, repr=False)

    def add(self, usage: Usage) -> None:
        """Count one answer."""
        with self._lock:
            self.total = self.total + usage
        for box in getattr(self._boxes, "open", ()):
            box.append(usage)

    @contextmanager
    def counted(self, box: list[Usage]) -> Iterator[None]:
        """Also put into ``box`` what this thread adds in the meantime."""
        held: list[list[Usage]] = self._boxes.__dict__.setdefault("open", [])
        held.append(box)
        try:
            yield
        finally:
            held[:] = [other for other in held if other is not box]

    def reset(self) -> Usage:
        """Start again from nothing; what had been counted."""
        with self._lock:
            total, self.total = self.total, Usage()
        return total

    def cost(self, usage: Usage | None = None) -> float:
        """Money for ``usage``, default for all that was counted."""
        used = self.total if usage is None else usage
        fresh = self.prices.get("prompt", 0.0)
        return (
            (used.prompt - used.reused) * fresh
            + used.reused * self.prices.get("reused", fresh)
            + used.completion * self.prices.get("completion", 0.0)
        ) / 1e6

    def report(self) -> dict[str, float | int]:
        """What a metrics file records: the fields of :class:`Usage` and ``cost``."""
        total = self.total
        return {
            "calls": total.calls,
            "prompt_tokens": total.prompt,
            "reused_tokens": total.reused,
            "completion_tokens": total.completion,
            "retries": total.retries,
            "replayed": total.replayed,
            "seconds": round(total.seconds, 3),
            "cost": round(self.cost(), 6),
        }


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for: ``arguments`` fit the tool's schema."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        text: what was written.
        data: the value that ``text`` spells, where a schema was given.
        tools: calls that the model asks for.
        usage: what it took.
    """

    text: str
    data: Any = None
    tools: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()


@dataclass(frozen=True)
class Weights:
    """How likely continuations are after a prompt.

    Attributes:
        logprobs: float64[n], the sum over the tokens of each continuation, natural logarithm.
        tokens: int64[n], tokens of each.
    """

    logprobs: NDArray[np.float64]
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.logprobs)

    def per_token(self) -> NDArray[np.float64]:
        """float64[n], mean log-probability of a token."""
        return self.logprobs / np.maximum(self.tokens, 1)


@dataclass(frozen=True)
class Decoding:
    """How an answer is written.

    Attributes:
        max_tokens: an answer that is not finished by then is cut, which is an error.
        temperature: 0 takes the likeliest token each time.
        seed: of what is drawn at a temperature above 0.
        stop: texts that end an answer and are left out of it.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not 0 <= self.temperature <= 2:
            raise ValueError("max_tokens must be at least 1 and temperature between 0 and 2")


class LanguageModel(ABC):
    """Anything that answers messages; backends differ in what they are able to do.

    Attributes:
        identity: what distinguishes its answers from another model's; part of tape keys.
        able: the verbs it has, of ``complete``, ``logprobs``, ``embed``, ``generate_items``.
        concurrency: questions that may be under way at once.
        meter: what it was used for.
        context: tokens that it reads at most; 0 where unknown.
    """

    identity: str
    able: ClassVar[frozenset[str]] = frozenset({"complete"})
    concurrency: int = 1
    context: int = 0

    def __init__(self, prices: Mapping[str, float] | None = None) -> None:
        self.meter = Meter(dict(prices or {}))

    @abstractmethod
    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> Completion:
        """Answer a conversation.

        Args:
            messages: OpenAI's form.
            schema: a JSON schema; the answer is held to it while it is decoded and then checked.
            tools: functions in OpenAI's form that the model may ask to be called.
            decoding: how the answer is written.

        Raises:
            BadAnswer: this answer is of no use.
            LanguageError: the model cannot be used.
        """

    def stream(
        self,
        messages: Sequence[Message],
        *,
        decoding: Decoding = Decoding(),  # noqa: B008
    ) -> Iterator[str]:
        """The pieces of an answer as they are written; errors as of :meth:`complete`."""
        yield self.complete(messages, decoding=decoding).text

    def logprobs(self, prompt: str | Sequence[Message], continuations: Sequence[str]) -> Weights:
        """How likely each continuation is right after the prompt.

        The prompt and a continuation are tokenised together, so a word is cut as it would be in
        running text; where the last token of the prompt and the first of the continuation become
        one, that token counts as the continuation's. Messages are put into the model's chat form
        up to where its answer would begin.

        Args:
            prompt: text that is taken as it is, or messages.
            continuations: n texts, none empty.

        Raises:
            BadAnswer: the prompt is too long.
            LanguageError: the model does not tell probabilities.
        """
        raise self._unable("logprobs", "weigh given continuations")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, d], rows of unit length.

        Raises:
            LanguageError: the model gives no vectors.
        """
        raise self._unable("embed", "give vectors of texts")

    def generate_items(
        self, messages: Sequence[Message], names: Sequence[str], k: int = 1
    ) -> list[int]:
        """Answer with names of a list and nothing else.

        Args:
            messages: the question.
            names: n distinct texts that may be answered.
            k: how many are wanted, at most n.

        Returns:
            At most k distinct rows of ``names``, best first.

        Raises:
            BadAnswer: as of :meth:`complete`.
            LanguageError: the model cannot be used.
        """
        if not 1 <= k <= len(names) or len(set(names)) < len(names):
            raise ValueError("names must be distinct and k between 1 and their number")
        schema = {
            "type": "object",
            "properties": {
                "items": {
                    "type": "array",
                    "items": {"enum": list(names)},
                    "minItems": k,
                    "maxItems": k,
                }
            },
            "required": ["items"],
            "additionalProperties": False,
        }
        longest = max(len(name) for name in names)
        room = Decoding(max_tokens=32 + k * (8 + longest))
        found = self.complete(messages, schema=schema, decoding=room).data["items"]
        place = {name: row for row, name in enumerate(names)}
        return list(dict.fromkeys(place[name] for name in found))

    def each(self, ask: Callable[[T], R], questions: Sequence[T]) -> list[R | BadAnswer]:
        """Ask many things, up to ``concurrency`` at once; answers in the order of the questions.

        A :class:`BadAnswer` stands in the place of its answer; anything else that is raised ends
        the whole.
        """

        def tried(question: T) -> R | BadAnswer:
            try:
                return ask(question)
            except BadAnswer as bad:
                return bad

        if self.concurrency < 2 or len(questions) < 2:
            return [tried(question) for question in questions]
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting = [pool.submit(tried, question) for question in questions]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of threads, files and memory; the model is of no use afterwards."""

    def _unable(self, verb: str, what: str) -> LanguageError:
        return LanguageError(
            f"cannot {what}",
            where=self.identity,
            fix=f"Use a model that is able to: {verb} works with local models (smollm2, a "
            "transformers folder) and with servers that echo log-probabilities",
        )
