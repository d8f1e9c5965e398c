"""Questions that are well put and cannot be answered as things are."""

from __future__ import annotations

from onoma.errors import OnomaError


class Missing(OnomaError):
    """What is asked for is not there."""


class Conflict(OnomaError):
    """The model or the catalogue that answers now does not allow it."""


class Unreachable(OnomaError):
    """The store does not answer; the same may be asked again."""
