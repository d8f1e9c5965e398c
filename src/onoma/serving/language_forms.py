"""What a language model is asked for over HTTP, in OpenAI's form, with limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from onoma.language import Decoding

_Words = Annotated[str, Field(max_length=1 << 20)]


class Refusal(Exception):
    """A question that is not answered, with the status and the word that say why."""

    def __init__(self, status: int, said: str, code: str) -> None:
        super().__init__(said)
        self.status, self.said, self.code = status, said, code


class _In(BaseModel):
    """Unknown fields are let be: clients send many that change nothing."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str = Field(max_length=1000)


class _Written(_In):
    """How an answer is to be written; what would change it and is not done is refused."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]] | str | None = None
    n: Literal[1] | None = None
    top_p: float | None = Field(default=None, ge=1, le=1)
    presence_penalty: float | None = Field(default=None, ge=0, le=0)
    frequency_penalty: float | None = Field(default=None, ge=0, le=0)
    logit_bias: dict[str, float] | None = Field(default=None, max_length=0)

    def _decoding(self, most: int) -> Decoding:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Decoding(most, self.temperature, self.seed or 0, tuple(stop))


class Function(BaseModel):
    """A function that may be called."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    description: str = Field(default="", max_length=10_000)
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})


class Tool(BaseModel):
    """A tool in OpenAI's form."""

    type: Literal["function"]
    function: Function


class Said(BaseModel):
    """A message."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: _Words | list[Part] | None = None
    tool_calls: list[Call] | None = Field(default=None, max_length=128)
    tool_call_id: str | None = Field(default=None, max_length=256)

    def plain(self) -> dict[str, Any]:
        """As the models here take it."""
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        told: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": content,
        }
        if self.tool_calls:
            told["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            told["tool_call_id"] = self.tool_call_id
        return told


class Part(BaseModel):
    """A part of a content; there are only texts."""

    type: Literal["text"]
    text: _Words


class Called(BaseModel):
    """Name and arguments of an earlier call."""

    name: str = Field(max_length=64)
    arguments: _Words


class Call(BaseModel):
    """An earlier call."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: Called


class Form(BaseModel):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Form:
        if self.type == "json_schema" and not isinstance(
            (self.json_schema or {}).get("schema"), dict
        ):
            raise ValueError("json_schema needs a schema")
        return self


class ChatIn(_Written):
    """``POST /v1/chat/completions``."""

    messages: list[Said] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(default=None, ge=1, le=1 << 20)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1 << 20)
    response_format: Form | None = None
    tools: list[Tool] | None = Field(default=None, max_length=64)
    tool_choice: Literal["auto", "none"] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    logprobs: Literal[False] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> ChatIn:
        if self.callable_() and self.schema_() is not None:
            raise ValueError("an answer follows a schema or calls tools, not both")
        return self

    def told(self) -> list[dict[str, Any]]:
        """The messages."""
        return [message.plain() for message in self.messages]

    def schema_(self) -> dict[str, Any] | None:
        """The schema that the answer is held to."""
        if self.response_format is None or self.response_format.type == "text":
            return None
        if self.response_format.json_schema is None:
            return {"type": "object"}
        return dict(self.response_format.json_schema["schema"])

    def callable_(self) -> list[dict[str, Any]] | None:
        """The tools that may be called."""
        if not self.tools or self.tool_choice == "none":
            return None
        return [tool.model_dump() for tool in self.tools]

    def decoding(self) -> Decoding:
        """How the answer is written."""
        return self._decoding(self.max_completion_tokens or self.max_tokens or 256)


class TextIn(_Written):
    """``POST /v1/completions``."""

    prompt: _Words | Annotated[list[_Words], Field(min_length=1, max_length=256)]
    max_tokens: int = Field(default=16, ge=0, le=1 << 20)
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=5)
    stream: Literal[False] = False

    @model_validator(mode="after")
    def _asks_something(self) -> TextIn:
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not all(prompts):
            raise ValueError("an empty prompt")
        if self.max_tokens == 0 and not (self.echo and self.logprobs is not None):
            raise ValueError("max_tokens 0 goes with echo and logprobs")
        return self

    def decoding(self) -> Decoding:
        """How the answer is written."""
        return self._decoding(self.max_tokens)


class EmbedIn(_In):
    """``POST /v1/embeddings``."""

    input: _Words | Annotated[list[_Words], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None


class ScoreIn(_In):
    """``POST /v1/score``: how likely continuations are after a prompt or after messages."""

    prompt: _Words | None = None
    messages: list[Said] | None = Field(default=None, min_length=1, max_length=1000)
    continuations: list[Annotated[str, Field(min_length=1, max_length=100_000)]] = Field(
        min_length=1, max_length=10_000
    )

    @model_validator(mode="after")
    def _either(self) -> ScoreIn:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages")
        return self

    def told(self) -> list[dict[str, Any]]:
        """The messages."""
        return [message.plain() for message in self.messages or ()]
