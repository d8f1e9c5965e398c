"""Any server of OpenAI's form: a company's, vLLM, llama.cpp's, or ``onoma models serve``."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onoma.language.answers import called, checked, finished
from onoma.language.base import (
    BadAnswer,
    Completion,
    Decoding,
    LanguageError,
    LanguageModel,
    Message,
    Usage,
    Weights,
)
from onoma.language.echo import those_of
from onoma.language.faults import Absent, Refused
from onoma.language.replies import first_choice, in_order, is_logprob, vectors, weights
from onoma.language.wire import Reply, Wire

_DEFAULT = Decoding()
_ECHOED = 16  # prompts of one echo request
_EMBEDDED = 128  # texts of one request for vectors
_TOO_LONG = ("context length", "context size", "context window", "maximum context", "too long")
_HELD_BACK = ("content_filter", "content_policy")


class Endpoint(LanguageModel):
    """A model behind an address.

    Every answer is checked before it is used: its form, its finish reason, and what it holds
    against the schema or the tool. Log-probabilities come from ``/score`` where the server has
    it (``onoma models serve``), else from legacy completions that echo their prompt (vLLM).

    Args:
        url: up to ``/v1``.
        model: the server's name for it; default the only one that it lists.
        key_env: variable of the environment with the key; without one none is sent.
        timeout: seconds without a byte; an answer that is not streamed is silent until it is
            whole.
        deadline: seconds for a question with all its tries and waits; default four timeouts.
        retries: further tries after 408, 409, 425, 429, 5xx, silence or a broken connection.
        backoff: seconds before the second try, doubled for each further one.
        concurrency: questions under way at once.
        prices: see :class:`~onoma.language.base.Meter`.
        largest: bytes of the largest answer that is read.

    Raises:
        LanguageError: no address, openai is not installed, or no model is named and the server
            does not list exactly one.
    """

    able: ClassVar[frozenset[str]] = frozenset({"complete", "logprobs", "embed", "generate_items"})

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        deadline: float | None = None,
        retries: int = 4,
        backoff: float = 0.5,
        concurrency: int = 8,
        prices: Mapping[str, float] | None = None,
        largest: int = 32 << 20,
    ) -> None:
        super().__init__(prices)
        if (
            timeout <= 0
            or retries < 0
            or concurrency < 1
            or (deadline is not None and deadline <= 0)
        ):
            raise LanguageError(
                "timeout and deadline must be above 0, retries at least 0, concurrency at least 1",
                where=url,
            )
        self.concurrency = concurrency
        self._wire = Wire(
            url,
            key_env=key_env,
            timeout=timeout,
            deadline=4 * timeout if deadline is None else deadline,
            retries=retries,
            backoff=backoff,
            concurrency=concurrency,
            most=largest,
            meter=self.meter,
        )
        self.url = self._wire.url
        self._room = "max_tokens"  # newer models of OpenAI take max_completion_tokens alone
        self._served: frozenset[str] | None = None
        self._asking = threading.Lock()
        self._echoes = False  # whether it was seen to echo
        self.model = model or self._only()
        self.identity = f"{self.url}#{self.model}"

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
        body = self._body(messages, decoding)
        if schema is not None:
            form = {"name": "answer", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if tools:
            body["tools"] = [dict(tool) for tool in tools]
        reply = self._ask("/chat/completions", body)
        usage = self._counted(reply)
        choice, message = first_choice(reply.data, "message", self.identity)
        content, calls = message.get("content"), message.get("tool_calls")
        text = content if isinstance(content, str) else ""
        if refusal := message.get("refusal"):
            said = str(refusal)[:200]
            raise BadAnswer(
                "refusal", f"the model refuses ({said})", where=self.identity, text=said
            )
        finished(choice.get("finish_reason"), text, self.identity)
        if content is not None and not isinstance(content, str):
            raise BadAnswer("malformed", "the content is no text", where=self.identity)
        found = called(calls, tools or (), self.identity, text) if calls else ()
        if not found and not text.strip():
            raise BadAnswer("empty", "the answer is empty", where=self.identity)
        data = checked(text, schema, self.identity) if schema is not None else None
        self._wire.proven = True
        return Completion(text, data, found, usage)

    def stream(
        self, messages: Sequence[Message], *, decoding: Decoding = _DEFAULT
    ) -> Iterator[str]:
        body = {**self._body(messages, decoding), "stream": True}
        body["stream_options"] = {"include_usage": True}
        text, reason = "", None
        try:
            for event in self._events(body):
                if event.get("error"):
                    raise BadAnswer("cut", "the server breaks off", where=self.identity)
                if event.get("usage"):
                    self._counted(Reply(event, Usage()))
                if event.get("choices") == []:  # the last event, which carries the usage
                    continue
                choice, delta = first_choice(event, "delta", self.identity)
                if delta.get("refusal"):
                    raise BadAnswer("refusal", "the model refuses", where=self.identity)
                reason = choice.get("finish_reason") or reason
                new = delta.get("content")
                if new is not None and not isinstance(new, str):
                    raise BadAnswer("malformed", "a piece is no text", where=self.identity)
                if new:
                    text += new
                    yield new
        except BadAnswer as bad:
            raise BadAnswer(bad.kind, bad.what, where=self.identity, text=text) from None
        finished(reason, text, self.identity)
        if not text.strip():
            raise BadAnswer("empty", "the answer is empty", where=self.identity)
        self._wire.proven = True

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            yield from self._wire.stream(body)
        except Refused as refused:
            if not self._renamed(refused, body):
                raise self._refusal(refused) from None
            yield from self._events(body)

    def logprobs(self, prompt: str | Sequence[Message], continuations: Sequence[str]) -> Weights:
        if not all(continuations):
            raise ValueError("an empty continuation")
        if not continuations:
            return Weights(np.zeros(0), np.zeros(0, np.int64))
        if "score" in self._verbs():
            return self._scored(prompt, continuations)
        if not isinstance(prompt, str):
            raise LanguageError(
                "the server cannot weigh answers to messages",
                where=self.identity,
                fix="Give the prompt as one text, or use a model of onoma models serve",
            )
        return self._echoed(prompt, continuations)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, 0), np.float32)
        parts = [list(texts[i : i + _EMBEDDED]) for i in range(0, len(texts), _EMBEDDED)]
        form = {"model": self.model, "encoding_format": "float"}
        replies = self._ask_all("/embeddings", [{**form, "input": part} for part in parts])
        made = []
        for reply, part in zip(replies, parts, strict=True):
            self._counted(reply)
            made.append(vectors(reply.data, len(part), self.identity))
        if len({part.shape[1] for part in made}) > 1:
            raise BadAnswer("malformed", "vectors of unequal length", where=self.identity)
        self._wire.proven = True
        return np.concatenate(made).astype(np.float32)

    def close(self) -> None:
        """End what is under way and the connections."""
        self._wire.close()

    def _body(self, messages: Sequence[Message], decoding: Decoding) -> dict[str, Any]:
        if not messages:
            raise ValueError("no messages")
        return {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            self._room: decoding.max_tokens,
            "temperature": decoding.temperature,
            "seed": decoding.seed,
            **({"stop": list(decoding.stop)} if decoding.stop else {}),
        }

    def _ask(self, path: str, body: dict[str, Any]) -> Reply:
        try:
            return self._wire.ask(path, body)
        except Refused as refused:
            if not self._renamed(refused, body):
                raise self._refusal(refused) from None
        return self._ask(path, body)

    def _ask_all(self, path: str, bodies: Sequence[dict[str, Any]]) -> list[Reply]:
        try:
            return self._wire.ask_all(path, bodies)
        except Refused as refused:
            raise self._refusal(refused) from None

    def _renamed(self, refused: Refused, body: dict[str, Any]) -> bool:
        """Whether the server only wants the limit of tokens under its newer name."""
        if "max_tokens" not in body or "max_completion_tokens" not in refused.said:
            return False
        self._room = "max_completion_tokens"
        body[self._room] = body.pop("max_tokens")
        return True

    def _refusal(self, refused: Refused) -> BadAnswer | LanguageError:
        """Whether it is the question or the caller that is refused."""
        said = refused.said.lower()
        if refused.code == "context_length_exceeded" or any(word in said for word in _TOO_LONG):
            return BadAnswer("context", refused.said, where=self.identity)
        if refused.code.startswith(_HELD_BACK):
            return BadAnswer("refusal", refused.said, where=self.identity)
        return refused

    def _counted(self, reply: Reply) -> Usage:
        """What an answer took; its tokens are added to the meter, its tries were already."""
        used = reply.data.get("usage")
        used = used if isinstance(used, dict) else {}
        details = used.get("prompt_tokens_details")
        details = details if isinstance(details, dict) else {}
        prompt, completion = (
            _count(used.get("prompt_tokens")),
            _count(used.get("completion_tokens")),
        )
        reused = min(_count(details.get("cached_tokens")), prompt)
        tokens = Usage(prompt=prompt, reused=reused, completion=completion)
        self.meter.add(tokens)
        return tokens + reply.usage

    def _models(self) -> list[dict[str, Any]]:
        listed = self._wire.ask("/models").data.get("data")
        return [
            one
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, dict) and isinstance(one.get("id"), str)
        ]

    def _only(self) -> str:
        names = [one["id"] for one in self._models()]
        if len(names) == 1:
            return str(names[0])
        said = f"has {len(names)} models" if names else "lists no model"
        shown = ", ".join(names[:20])
        raise LanguageError(
            f"the server {said}" + (f": {shown}" if shown else ""),
            where=self.url,
            fix=f"Name one: {self.url}#NAME",
        )

    def _verbs(self) -> frozenset[str]:
        """What a server of ours says that the model is able to; asked once."""
        with self._asking:
            if self._served is None:
                try:
                    mine = [one for one in self._models() if one["id"] == self.model]
                except Absent:
                    mine = []  # a server without a list can still echo
                facts = mine[0].get("onoma") if mine else None
                able = facts.get("able") if isinstance(facts, dict) else None
                self._served = frozenset(filter(_word, able if isinstance(able, list) else ()))
            return self._served

    def _scored(self, prompt: str | Sequence[Message], continuations: Sequence[str]) -> Weights:
        asked: dict[str, Any] = {"model": self.model, "continuations": list(continuations)}
        if isinstance(prompt, str):
            asked["prompt"] = prompt
        else:
            asked["messages"] = [dict(message) for message in prompt]
        reply = self._ask("/score", asked)
        self._counted(reply)
        found = weights(reply.data, len(continuations), self.identity)
        self._wire.proven = True
        return found

    def _echoed(self, prompt: str, continuations: Sequence[str]) -> Weights:
        parts = [continuations[i : i + _ECHOED] for i in range(0, len(continuations), _ECHOED)]
        form = {
            "model": self.model,
            "echo": True,
            "logprobs": 1,
            "max_tokens": 1,
            "temperature": 0.0,
        }
        bodies = [{**form, "prompt": [prompt + one for one in part]} for part in parts]
        try:
            replies = self._ask_all("/completions", bodies)
        except Refused as refused:
            raise self._silent(refused.said) from None
        logprobs: list[float] = []
        tokens: list[int] = []
        for reply, part in zip(replies, parts, strict=True):
            self._counted(reply)
            for choice, one in zip(
                in_order(reply.data, len(part), self.identity), part, strict=True
            ):
                weight = self._weighed(choice, prompt, one)
                logprobs.append(weight[0])
                tokens.append(weight[1])
        self._echoes = self._wire.proven = True
        return Weights(np.array(logprobs, np.float64), np.array(tokens, np.int64))

    def _weighed(
        self, choice: Mapping[str, Any], prompt: str, continuation: str
    ) -> tuple[float, int]:
        """Sum and number of a continuation's tokens in an echo."""
        told = choice.get("logprobs")
        tokens = told.get("tokens") if isinstance(told, dict) else None
        values = told.get("token_logprobs") if isinstance(told, dict) else None
        if not isinstance(tokens, list) or not isinstance(values, list):
            raise self._silent("there are none in its answer")
        if not all(isinstance(token, str) for token in tokens) or len(values) != len(tokens):
            raise BadAnswer("malformed", "tokens and values do not pair", where=self.identity)
        rows = those_of(tokens, prompt, continuation)
        if rows is None:
            if self._echoes:
                raise BadAnswer("malformed", "the echo is another text", where=self.identity)
            raise self._silent("the text that comes back is another")
        mine = [values[row] for row in rows]
        if not mine or not all(is_logprob(value) for value in mine):
            raise BadAnswer("malformed", "tokens without a log-probability", where=self.identity)
        return float(sum(mine)), len(mine)

    def _silent(self, why: str) -> LanguageError:
        return LanguageError(
            f"the server does not echo log-probabilities ({why})",
            where=self.identity,
            fix="Use a server that does (vLLM, onoma models serve) or a local model",
        )


def _word(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
