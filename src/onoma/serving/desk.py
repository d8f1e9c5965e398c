"""Questions of OpenAI's form and the model that answers them, one after the other."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from onoma.language import BadAnswer, Completion, LanguageError, LanguageModel, Usage
from onoma.serving.language_forms import ChatIn, EmbedIn, Refusal, ScoreIn, TextIn

T = TypeVar("T")
_WAITING = 256  # questions that may wait for the model; more are refused


class Desk:
    """Takes questions of OpenAI's form to a model, one after the other.

    Args:
        model: what answers.
        name: what it is called.
    """

    def __init__(self, model: LanguageModel, name: str) -> None:
        self.model, self.name, self.made = model, name, int(time.time())
        self._turn = asyncio.Semaphore(model.concurrency)
        self._waiting = 0

    def card(self) -> dict[str, Any]:
        """The model as the list of models has it; ``onoma`` is what its own clients read."""
        able = sorted(self.model.able | ({"score"} if "logprobs" in self.model.able else set()))
        return {
            "id": self.name,
            "object": "model",
            "created": self.made,
            "owned_by": "onoma",
            "onoma": {
                "able": able,
                "context": self.model.context,
                "identity": self.model.identity,
            },
        }

    def check(self, name: str) -> None:
        """Refuse a question for another model."""
        if name != self.name:
            raise Refusal(404, f"the model here is {self.name!r}", "model_not_found")

    async def turn(self, request: Request, work: Callable[[], T]) -> T:
        """Do something when it is this question's turn, unless nobody waits for it any more."""
        async with self._place():
            if await request.is_disconnected():
                raise Refusal(499, "nobody waits for the answer", "gone")
            return await run_in_threadpool(work)

    def chat(self, asked: ChatIn) -> dict[str, Any]:
        """A whole answer."""
        used: list[Usage] = []
        with self.model.meter.counted(used):
            message, reason = self._message(asked)
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": _usage(used),
        }

    async def streamed(self, asked: ChatIn, request: Request) -> StreamingResponse:
        """An answer in pieces, as server-sent events.

        The model's thread writes into a queue; where the reader leaves, it stops at the next
        piece, and only then the next question has its turn.
        """
        place = self._place()
        await place.__aenter__()
        loop = asyncio.get_running_loop()
        came: asyncio.Queue[Any] = asyncio.Queue()
        left = threading.Event()

        def hand(value: Any) -> None:
            loop.call_soon_threadsafe(came.put_nowait, value)

        def write() -> None:
            used: list[Usage] = []
            try:
                with self.model.meter.counted(used):
                    for delta, reason in self._deltas(asked):
                        if left.is_set():
                            break
                        hand((delta, reason))
            except Exception as error:
                hand(error)
            hand(_usage(used))

        writing = asyncio.ensure_future(asyncio.to_thread(write))

        def free(_: Any) -> None:
            loop.create_task(place.__aexit__(None, None, None))

        writing.add_done_callback(free)
        try:
            first = await came.get()
        except BaseException:
            left.set()
            raise
        if isinstance(first, Exception):  # before the first piece it can still be said by a status
            raise first

        async def events() -> AsyncIterator[bytes]:
            head = {
                "id": f"chatcmpl-{uuid.uuid4().hex}",
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": self.name,
            }
            value = first
            try:
                while not isinstance(value, dict):
                    if isinstance(value, Exception):
                        yield _event({"error": told_as_error(value)[1]})
                    else:
                        choice = {"index": 0, "delta": value[0], "finish_reason": value[1]}
                        yield _event({**head, "choices": [choice]})
                    value = await came.get()
                if (asked.stream_options or {}).get("include_usage"):
                    yield _event({**head, "choices": [], "usage": value})
                yield b"data: [DONE]\n\n"
            finally:
                left.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    def text(self, asked: TextIn) -> dict[str, Any]:
        """Echoes of texts with their log-probabilities, or what follows them."""
        used: list[Usage] = []
        prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        with self.model.meter.counted(used):
            if asked.echo and asked.logprobs is not None:
                choices = [self._echo(prompt, asked.max_tokens) for prompt in prompts]
            else:
                choices = [self._continued(prompt, asked) for prompt in prompts]
        return {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [{"index": place, **choice} for place, choice in enumerate(choices)],
            "usage": _usage(used),
        }

    def embed(self, asked: EmbedIn) -> dict[str, Any]:
        """Vectors of texts."""
        used: list[Usage] = []
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        with self.model.meter.counted(used):
            rows = self.model.embed(texts)
        packed = asked.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": _packed(row) if packed else row.tolist(),
            }
            for i, row in enumerate(rows)
        ]
        return {"object": "list", "model": self.name, "data": data, "usage": _usage(used)}

    def score(self, asked: ScoreIn) -> dict[str, Any]:
        """Log-probabilities of continuations; what they share is read once."""
        used: list[Usage] = []
        prompt = asked.prompt if asked.messages is None else asked.told()
        assert prompt is not None  # ScoreIn holds one of the two
        with self.model.meter.counted(used):
            found = self.model.logprobs(prompt, asked.continuations)
        return {
            "object": "score",
            "model": self.name,
            "logprobs": found.logprobs.tolist(),
            "tokens": found.tokens.tolist(),
            "usage": _usage(used),
        }

    def _message(self, asked: ChatIn) -> tuple[dict[str, Any], str]:
        """A message and its finish reason; a bad answer is told in the words of the interface."""
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        try:
            answer = self.model.complete(
                asked.told(), schema=asked.schema_(), tools=asked.callable_(),
                decoding=asked.decoding(),
            )  # fmt: skip
        except BadAnswer as bad:
            told, reason = _told_badly(bad)
            return {**message, **told}, reason
        if answer.tools:
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for call in answer.tools
            ]
            return {**message, "content": answer.text or None, "tool_calls": calls}, "tool_calls"
        return {**message, "content": answer.text}, "stop"

    def _deltas(self, asked: ChatIn) -> Iterator[tuple[dict[str, Any], str | None]]:
        if asked.schema_() is not None or asked.callable_():  # held to a form, told when whole
            message, reason = self._message(asked)
            calls = [{"index": i, **call} for i, call in enumerate(message.get("tool_calls", ()))]
            yield {**message, **({"tool_calls": calls} if calls else {})}, None
            yield {}, reason
            return
        begun = False
        try:
            for piece in self.model.stream(asked.told(), decoding=asked.decoding()):
                yield {**({} if begun else {"role": "assistant"}), "content": piece}, None
                begun = True
        except BadAnswer as bad:
            told, reason = _told_badly(bad)
            if bad.kind == "refusal":
                yield told, None
            yield {}, reason
            return
        yield {}, "stop"

    def _echo(self, prompt: str, most: int) -> dict[str, Any]:
        from onoma.language.echo import echo
        from onoma.language.local import Local
        from onoma.language.torch_model import TorchModel

        model = self.model.weigher if isinstance(self.model, Local) else self.model
        if not isinstance(model, TorchModel):
            raise Refusal(400, "the model does not echo log-probabilities", "unsupported")
        if most > 1:
            raise Refusal(400, "echoes with log-probabilities go with max_tokens 0 or 1", "invalid")
        found = echo(model, prompt)
        self.model.meter.add(Usage(prompt=len(found.pieces), calls=1))
        pieces, values = list(found.pieces), list(found.logprobs)
        if most:
            pieces.append(found.then[0])
            values.append(found.then[1])
        ends = np.cumsum([0, *(len(piece) for piece in pieces)])
        told = {"tokens": pieces, "token_logprobs": values, "text_offset": ends[:-1].tolist()}
        return {"text": "".join(pieces), "logprobs": told, "finish_reason": "length"}

    def _continued(self, prompt: str, asked: TextIn) -> dict[str, Any]:
        from onoma.language.llama import LlamaModel
        from onoma.language.local import Local

        model = self.model.writer if isinstance(self.model, Local) else self.model
        if not isinstance(model, LlamaModel):
            raise Refusal(400, "the model does not go on with bare text", "unsupported")
        if asked.logprobs is not None:
            raise Refusal(400, "logprobs are given with echo alone", "unsupported")
        try:
            answer, reason = model.continue_text(prompt, asked.decoding()), "stop"
        except BadAnswer as bad:
            if bad.kind != "cut":
                raise
            answer, reason = Completion(bad.text), "length"
        text = prompt + answer.text if asked.echo else answer.text
        return {"text": text, "logprobs": None, "finish_reason": reason}

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._waiting >= _WAITING:
            raise Refusal(503, "too many questions wait", "overloaded")
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1


def _told_badly(bad: BadAnswer) -> tuple[dict[str, Any], str]:
    """A bad answer as a message that says so; what only a status can say is raised again."""
    if bad.kind == "cut":
        return {"content": bad.text}, "length"
    if bad.kind == "refusal":
        return {"refusal": bad.text or bad.what}, "stop"
    if bad.kind in ("empty", "malformed"):
        return {"content": bad.text}, "stop"
    raise bad


def _usage(used: Sequence[Usage]) -> dict[str, Any]:
    total = sum(used, Usage())
    return {
        "prompt_tokens": total.prompt,
        "completion_tokens": total.completion,
        "total_tokens": total.prompt + total.completion,
        "prompt_tokens_details": {"cached_tokens": total.reused},
    }


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _packed(row: Any) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def told_as_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and document of what may be raised."""
    if isinstance(error, Refusal):
        status, said, code = error.status, error.said, error.code
    elif isinstance(error, BadAnswer) and error.kind == "context":
        status, said, code = 400, f"{error.what} (context length)", "context_length_exceeded"
    elif isinstance(error, BadAnswer):
        status, said, code = 504, error.what, error.kind
    elif isinstance(error, LanguageError):
        status, said, code = 400, str(error), "unsupported"
    else:
        status, said, code = 500, "something went wrong here", "internal"
    kind = "invalid_request_error" if status < 500 else "server_error"
    return status, {"message": said[:500], "type": kind, "code": code, "param": None}
