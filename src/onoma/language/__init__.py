"""Language models: one contract, and what answers to it."""

from onoma.language.base import (
    BadAnswer,
    Completion,
    Decoding,
    LanguageError,
    LanguageModel,
    Message,
    Meter,
    ToolCall,
    Usage,
    Weights,
)

__all__ = [
    "BadAnswer",
    "Completion",
    "Decoding",
    "LanguageError",
    "LanguageModel",
    "Message",
    "Meter",
    "ToolCall",
    "Usage",
    "Weights",
]
