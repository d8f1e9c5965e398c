"""Tools for models that know nothing of them: described in words, called by a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from onoma.language.base import Message


def choice(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The schema of a tool call or an answer in words."""

    def one(properties: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    calls = [
        one(
            {
                "tool": {"const": tool["function"]["name"]},
                "arguments": tool["function"].get("parameters", {"type": "object"}),
            }
        )
        for tool in tools
    ]
    return {"anyOf": [*calls, one({"answer": {"type": "string"}})]}


def with_tools(message: Message, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The message, followed by the tools and how to call them."""
    lines = [
        f"- {tool['function']['name']}: {tool['function'].get('description', '')} "
        f"{json.dumps(tool['function'].get('parameters', {}))}"
        for tool in tools
    ]
    asked = (
        f"{message.get('content') or ''}\n\nTools:\n" + "\n".join(lines) + "\n\n"
        'Answer with JSON: {"tool": NAME, "arguments": {...}} to use one, or {"answer": TEXT}.'
    )
    return {**message, "content": asked}
