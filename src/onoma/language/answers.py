"""What came back, held against what was asked for; and tools for models that know none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from onoma.language.base import BadAnswer, LanguageError, Message, ToolCall

_DONE = {"stop", "tool_calls", "function_call", "eos", "eos_token", "end_turn", "stop_sequence"}
_REFUSED = {"content_filter", "refusal", "safety"}


def parsed(text: str, where: str) -> Any:
    """The value that a JSON text spells, numbers finite and characters whole.

    Raises:
        BadAnswer: ``malformed``.
    """
    try:
        value = json.loads(text, parse_constant=_not_json, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate would fail only later
    except (ValueError, RecursionError) as error:
        raise BadAnswer("malformed", f"not JSON ({error})", where=where, text=text) from None
    return value


def checked(text: str, schema: Mapping[str, Any], where: str) -> Any:
    """The value that an answer spells, held against a JSON schema.

    Raises:
        BadAnswer: ``malformed``: not JSON, or not what the schema asks for.
        LanguageError: the schema is none, or jsonschema is not installed.
    """
    value = parsed(text, where)
    fits(value, schema, where, text)
    return value


def fits(value: Any, schema: Mapping[str, Any], where: str, text: str = "") -> None:
    """Refuse a value that a JSON schema does not allow.

    Raises:
        BadAnswer: ``malformed``.
        LanguageError: the schema is none, or jsonschema is not installed.
    """
    error = next(iter(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value)), None)
    if error is not None:
        said = error.message if len(error.message) < 160 else f"{error.message[:150]}..."
        raise BadAnswer("malformed", f"{error.json_path}: {said}", where=where, text=text)


def finished(reason: Any, text: str, where: str) -> None:
    """Refuse an answer that did not come to its own end.

    Args:
        reason: the finish reason of OpenAI's form.
        text: what came.
        where: named in the error.

    Raises:
        BadAnswer: ``cut`` or ``refusal``.
    """
    if reason in _DONE:
        return
    if reason in ("length", "max_tokens"):
        raise BadAnswer("cut", "the answer ends at the token limit", where=where, text=text)
    if reason in _REFUSED:
        raise BadAnswer("refusal", f"the answer was withheld ({reason})", where=where, text=text)
    said = "gives no reason for its end" if reason is None else f"broke off ({str(reason)[:40]})"
    raise BadAnswer("cut", f"the answer {said}", where=where, text=text)


def called(
    raw: Any, tools: Sequence[Mapping[str, Any]], where: str, text: str = ""
) -> tuple[ToolCall, ...]:
    """Tool calls in OpenAI's form, each held against its tool's schema.

    Raises:
        BadAnswer: ``malformed``: no calls, an unknown tool, or arguments that do not fit.
    """
    known = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
    found: list[ToolCall] = []
    for call in raw if isinstance(raw, list) and raw else [{}]:
        function = call.get("function") if isinstance(call, dict) else None
        function = function if isinstance(function, dict) else {}
        name = function.get("name")
        if not isinstance(name, str) or name not in known:
            raise BadAnswer("malformed", "a call of no known tool", where=where, text=text)
        arguments = function.get("arguments")
        value = parsed(arguments, where) if isinstance(arguments, str) else arguments
        if not isinstance(value, dict):
            raise BadAnswer(
                "malformed", f"arguments of {name} are no object", where=where, text=text
            )
        fits(value, known[name], where, text)
        found.append(ToolCall(str(call.get("id") or f"call_{len(found)}"), name, value))
    return tuple(found)


def with_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
) -> tuple[list[Message], dict[str, Any]]:
    """A question with tools for a model whose chat form knows none.

    The tools are told in a system message, and the answer is an object that a schema constrains:
    a call, or a text.

    Returns:
        The messages, and the schema; :func:`chosen` reads the answer.
    """
    functions = [tool["function"] for tool in tools]
    told = "\n".join(
        f"- {f['name']}: {f.get('description', '')} "
        f"Arguments: {json.dumps(f.get('parameters') or {}, ensure_ascii=False)}"
        for f in functions
    )
    system = (
        "You can call these functions:\n"
        f"{told}\n"
        'To call one, answer {"call": NAME, "arguments": {...}}. '
        'If none is needed, answer {"answer": TEXT}.'
    )
    given = plain(messages)
    if given and given[0].get("role") == "system":
        system = f"{given[0]['content']}\n\n{system}"
        given = given[1:]
    calls = [
        _object(call={"const": f["name"]}, arguments=f.get("parameters") or {"type": "object"})
        for f in functions
    ]
    schema = {"anyOf": [*calls, _object(answer={"type": "string", "minLength": 1})]}
    return [{"role": "system", "content": system}, *given], schema


def chosen(data: Mapping[str, Any], turn: int) -> tuple[str, tuple[ToolCall, ...]]:
    """Text and calls of an answer to :func:`with_tools`.

    Args:
        data: the answer.
        turn: messages before it; calls of a conversation are told apart by it.
    """
    if "call" in data:
        return "", (ToolCall(f"call_{turn}", data["call"], dict(data["arguments"])),)
    return str(data["answer"]), ()


def plain(messages: Sequence[Message]) -> list[Message]:
    """Messages with nothing in them but role and text; calls and their results become text."""
    names: dict[str, str] = {}
    made: list[Message] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content)
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                names[str(call.get("id"))] = call["function"]["name"]
                arguments = call["function"]["arguments"]
                said = arguments if isinstance(arguments, str) else json.dumps(arguments)
                calls.append(f'{{"call": {json.dumps(names[str(call.get("id"))])}, '
                             f'"arguments": {said}}}')  # fmt: skip
            content = "\n".join([*([content] if content else []), *calls])
        role = message["role"]
        if role == "tool":
            name = names.get(str(message.get("tool_call_id")), "the function")
            role, content = "user", f"Result of {name}: {content}"
        made.append({"role": role, "content": content or ""})
    return made


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    try:
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
    except ImportError as error:
        raise LanguageError(
            f"{error.name} is not installed", where="schema", fix="pip install 'onoma[llm]'"
        ) from None
    made = json.loads(schema)
    kind = validator_for(made)
    try:
        kind.check_schema(made)
    except SchemaError as error:
        raise LanguageError(f"not a JSON schema ({error.message})", where="schema") from None
    return kind(made, registry=Registry())  # an empty one: nothing is fetched from elsewhere


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value
