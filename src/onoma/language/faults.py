"""What a server's refusal means: whether it may pass, and what to tell of it."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from onoma.language.base import BadAnswer, LanguageError

_AGAIN = {408, 409, 425, 429}  # and everything from 500
_LONGEST = 20.0  # seconds between two tries, where the server names none


class Refused(LanguageError):
    """The server took the question and will not answer it: 400, 413 or 422.

    Attributes:
        code: the server's word for it, if any.
        said: the server's sentence.
    """

    def __init__(self, said: str, code: str, *, where: str) -> None:
        super().__init__(f"the server refuses the question ({said})", where=where)
        self.said, self.code = said, code


class Absent(LanguageError):
    """The server has no such path or no such model."""


@dataclass(frozen=True)
class Reading:
    """How errors of the openai package are read.

    Attributes:
        url: named in what is told.
        timeout: seconds of silence, for what is told.
        key: kept out of what is told.
        key_env: where the key is to be put.
    """

    url: str
    timeout: float
    key: str
    key_env: str

    def clean(self, text: str) -> str:
        """A server's words, short and without the key, which some repeat."""
        text = text.replace(self.key, "...") if self.key else text
        return " ".join(text.split())[:200]

    def silent(self) -> BadAnswer:
        """Nothing came."""
        return BadAnswer("timeout", f"silent for {self.timeout:g} s", where=self.url)

    def told(self, error: Exception, wait: float | None) -> Exception:
        """What a caller is told.

        Args:
            error: as it was raised.
            wait: seconds that the server asks to wait, if that is longer than there is time.
        """
        import openai

        if isinstance(error, openai.APITimeoutError):
            return self.silent()
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__
            return LanguageError(
                f"cannot be reached ({self.clean(str(cause) or type(cause).__name__)})",
                where=self.url,
                fix="Is the server running there?",
            )
        if not isinstance(error, openai.APIStatusError):
            return error
        status, body = error.status_code, error.body
        detail = body.get("message") or body.get("detail") if isinstance(body, dict) else None
        said = self.clean(str(detail or error.message))
        if status in (400, 413, 422):
            return Refused(said, str(error.code or error.type or ""), where=self.url)
        if status in (401, 403):
            fix = f"Set {self.key_env} to a key of this server"
            what = "refuses the key" if self.key else "asks for a key"
            return LanguageError(f"the server {what} ({said})", where=self.url, fix=fix)
        if status in (404, 405, 501):
            fix = "Does the address end in /v1, and does the server have the model?"
            return Absent(f"nothing is found there ({said})", where=self.url, fix=fix)
        if 300 <= status < 400:
            to = self.clean(error.response.headers.get("location", "elsewhere"))
            return LanguageError(f"the server has moved to {to}", where=self.url)
        if status == 429 and wait is not None:
            said = f"asks to wait {wait:.0f} s, longer than a question may take"
        return LanguageError(f"the server answers {status} ({said})", where=self.url)


def pause(error: Exception, tried: int, backoff: float) -> float | None:
    """Seconds to wait before another try; None where none would help.

    Args:
        error: of the openai package, or any other.
        tried: tries so far.
        backoff: seconds after the first, doubled for each further one, with jitter, so that many
            clients do not come back at once.
    """
    import openai

    wait = min(backoff * 2 ** (tried - 1), _LONGEST) * random.uniform(0.5, 1.0)
    if isinstance(error, openai.APIConnectionError):
        return wait
    if not isinstance(error, openai.APIStatusError) or error.code == "insufficient_quota":
        return None
    if error.status_code not in _AGAIN and (error.status_code < 500 or error.status_code == 501):
        return None
    asked = _asked_to_wait(error.response.headers)
    return wait if asked is None else asked + 0.1 * wait


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a refusal asks to wait, from ``Retry-After``: a number or a date."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
