"""Dialogues as OpenAI's chat completions have them; fields that nothing here reads are let by."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from onoma.serving.schema import MOST_IDS, Id, ItemRef, Whole

_LETTERS = 100_000

Said = Annotated[str, StringConstraints(max_length=_LETTERS)]


class Part(BaseModel):
    """A part of a message; those that are no text are not read."""

    model_config = ConfigDict(strict=True)

    type: str = Field(max_length=64)
    text: Said | None = None


class Message(BaseModel):
    """What was said."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Said | Annotated[list[Part], Field(max_length=100)] | None = None


class ChatIn(BaseModel):
    """A dialogue, and what is known of who asks."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    model: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="Not read: the answer says which model it is of."
    )
    messages: list[Message] = Field(min_length=1, max_length=500, description="Oldest first.")
    stream: bool | None = Field(default=None, description="Server-sent events in place of JSON.")
    user: Id | None = Field(default=None, description="A user of the data or of the events.")
    history: list[Id] = Field(
        default=[], max_length=MOST_IDS, description="Item ids of what is known besides."
    )
    exclude: list[Id] = Field(default=[], max_length=MOST_IDS, description="Items not wanted.")
    k: Annotated[Whole, Field(ge=1, le=50)] = Field(default=5, description="How many items.")


class SaidItem(ItemRef):
    """An item of an answer."""

    score: float | None
    reason: str = Field(description="In words, empty for none.")


class Understood(BaseModel):
    """The answer as data."""

    request_id: str = Field(description="To be quoted by the events that follow.")
    intent: Literal["recommend", "more", "why"]
    items: list[SaidItem] = Field(description="What the answer names, in its order.")


class AssistantMessage(BaseModel):
    """The answer in words."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one answer there is."""

    index: int
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop"]


class Usage(BaseModel):
    """How much was read and written, in words."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatOut(BaseModel):
    """An answer to a dialogue; ``onoma`` is what OpenAI's form has no place for."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    onoma: Understood
