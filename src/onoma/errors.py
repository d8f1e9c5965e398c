"""The one error a user of Onoma is meant to read."""

from __future__ import annotations


class OnomaError(Exception):
    """Bad input, told in one line: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        line = f"{where}: {what}" if where else what
        if fix:
            line = f"{line.rstrip('.')}. {fix}"
        super().__init__(" ".join(line.split()))


class MissingColumn(OnomaError):
    """The catalogue lacks a column that a method needs: other methods may still fit it."""
