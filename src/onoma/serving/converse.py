"""The route that talks: chat completions in the form that OpenAI's clients speak."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from onoma.serving.ask import answer
from onoma.serving.chat import Reply
from onoma.serving.engine import request_id
from onoma.serving.problems import documented
from onoma.serving.service import Service
from onoma.serving.speech import ChatIn, ChatOut, Message
from onoma.serving.view import View

_EVENTS = "text/event-stream"


def routes(service: Service) -> APIRouter:
    """The routes of a service."""
    router = APIRouter(prefix="/v1", tags=["ask"], responses=documented())
    streamed: dict[str, Any] = {"content": {_EVENTS: {"schema": {"type": "string"}}}}

    @router.post("/chat/completions", response_model=ChatOut, responses={200: streamed})
    async def chat(body: ChatIn) -> Response:
        """Talk about the catalogue; every title and id in the answer is of one of its items."""
        view, reply = await run_in_threadpool(_reply, service, body)
        head = {"id": f"chatcmpl-{request_id(view)}", "created": int(time.time())}
        head["model"] = view.name
        if body.stream:
            return StreamingResponse(_pieces(head, reply), media_type=_EVENTS)
        read = sum(len(_text(message).split()) for message in body.messages)
        written = len(reply.text.split())
        return answer(
            {
                **head,
                "object": "chat.completion",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": reply.text, "refusal": None},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": read,
                    "completion_tokens": written,
                    "total_tokens": read + written,
                },
                "onoma": _understood(head, reply),
            }
        )

    return router


def _reply(service: Service, body: ChatIn) -> tuple[View, Reply]:
    began = time.perf_counter()
    service.live.sync()
    view = service.view
    history = service.engine.known(view, body.user, body.history)
    exclude = np.concatenate(service.engine.unwanted(view, body.user, body.exclude))
    messages = [message.model_dump() for message in body.messages]
    reply = service.talker.reply(view, messages, history=history, exclude=exclude, k=body.k)
    service.metrics.stage["chat"].observe(time.perf_counter() - began)
    return view, reply


def _understood(head: dict[str, Any], reply: Reply) -> dict[str, Any]:
    return {
        "request_id": head["id"].removeprefix("chatcmpl-"),
        "intent": reply.wish.intent,
        "items": [
            {
                "item_id": item.item_id,
                "title": item.title,
                "score": item.score,
                "reason": item.reason,
            }
            for item in reply.items
        ],
    }


def _pieces(head: dict[str, Any], reply: Reply) -> Iterator[bytes]:
    """The answer line by line, and what it is as data at its end."""
    role: dict[str, Any] = {"role": "assistant", "content": ""}
    yield _event(head, role)
    for line in reply.text.splitlines(keepends=True):
        yield _event(head, {"content": line})
    yield _event(head, {}, "stop", onoma=_understood(head, reply))
    yield b"data: [DONE]\n\n"


def _event(
    head: dict[str, Any], delta: dict[str, Any], end: str | None = None, **more: Any
) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
    chunk = {**head, "object": "chat.completion.chunk", "choices": [choice], **more}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _text(message: Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text or "" for part in message.content)
    return message.content or ""
