"""The next token: what a JSON schema allows of it, and the drawing of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onoma.language.base import LanguageError


class Mask:
    """The tokens that a JSON schema allows next."""

    def __init__(self, tokenizer: Any, schema: Mapping[str, Any], where: str) -> None:
        import llguidance.torch
        from llguidance import LLMatcher

        self._fill = llguidance.torch.fill_next_token_bitmask
        self._apply = llguidance.torch.apply_token_bitmask_inplace
        # No white space that the schema does not need: small models love to write it for ever.
        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(schema), overrides={"whitespace_flexible": False}
        )
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise LanguageError(
                f"the schema cannot be decoded under ({self._matcher.get_error()})", where=where
            )
        self._bits = llguidance.torch.allocate_token_bitmask(1, tokenizer.vocab_size)

    def hold(self, logits: Any) -> None:
        """Set the logits (float32[vocabulary]) of what is not allowed to -inf."""
        self._fill(self._matcher, self._bits)
        self._apply(logits, self._bits)

    def take(self, token: int) -> bool:
        """Go on after a token; True when nothing may follow it."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())


def drawn(logits: Any, temperature: float, draw: Any) -> int:
    """A token by its logits (float32[vocabulary]); the likeliest at temperature 0."""
    import torch

    if temperature == 0:
        return int(logits.argmax())
    chances = torch.softmax(logits / temperature, dim=-1)
    return int(torch.multinomial(chances, 1, generator=draw))
