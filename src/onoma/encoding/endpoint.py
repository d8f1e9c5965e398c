"""Vectors from any HTTP service that speaks the OpenAI embeddings protocol."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from onoma.encoding.base import TextEncoder, unit_rows
from onoma.encoding.text import FIELDS
from onoma.errors import OnomaError

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 30.0


class Endpoint(TextEncoder):
    """Posts texts to ``{url}/embeddings``.

    Args:
        model: the service's name of the model.
        url: base address, such as ``http://localhost:8000/v1``; default the environment's
            ``OPENAI_BASE_URL``.
        dimensions: asked of services that can shorten their vectors.
        key_env: environment variable that holds the key; nothing is sent when it is not set.
        batch: texts a request.
        retries: further tries after a refusal that may pass, with doubling waits.
        timeout: seconds to wait for one answer.
        longest: characters of a text that are sent.
        fields: columns of the catalogue to read.
    """

    name = "endpoint"

    def __init__(
        self,
        model: str,
        url: str | None = None,
        dimensions: int | None = None,
        key_env: str = "OPENAI_API_KEY",
        batch: int = 64,
        retries: int = 4,
        timeout: float = 60.0,
        longest: int = 8000,
        fields: Sequence[str] = FIELDS,
    ) -> None:
        super().__init__(fields)
        url = (url or os.environ.get("OPENAI_BASE_URL") or "").rstrip("/")
        if urlsplit(url).scheme not in ("http", "https"):
            raise OnomaError(
                f"{url!r} is not an http address",
                where="encoder endpoint",
                fix="Set encoder.url or OPENAI_BASE_URL",
            )
        if batch < 1 or retries < 0 or timeout <= 0 or longest < 1:
            raise ValueError("batch, timeout and longest must be positive, retries not negative")
        self.model, self.url, self.dimensions, self.key_env = model, url, dimensions, key_env
        self.batch, self.retries, self.timeout, self.longest = batch, retries, timeout, longest

    def settings(self) -> dict[str, Any]:
        """Service, model and what is sent; never the key."""
        return {
            "model": self.model,
            "url": self.url,
            "dimensions": self.dimensions,
            "longest": self.longest,
            "fields": list(self.fields),
        }

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), dim]; equal texts are sent once, empty ones never.

        Raises:
            OnomaError: the service cannot be reached, refuses, or answers something else.
        """
        distinct = list(dict.fromkeys(text[: self.longest] for text in texts if text))
        parts = [
            self._ask(distinct[start : start + self.batch])
            for start in range(0, len(distinct), self.batch)
        ]
        if len({part.shape[1] for part in parts}) > 1:
            raise self._strange("vectors of different lengths")
        known = np.concatenate(parts) if parts else np.zeros((0, self.dimensions or 1), np.float32)
        place = {text: row for row, text in enumerate(distinct)}
        rows = np.array([place.get(text[: self.longest], -1) for text in texts], dtype=np.int64)
        out = np.zeros((len(texts), known.shape[1]), dtype=np.float32)
        out[rows >= 0] = known[rows[rows >= 0]]
        return unit_rows(out)

    def _ask(self, texts: list[str]) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self.model, "input": texts, "encoding_format": "float"}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        answer = self._post(json.dumps(body).encode())
        try:
            data = json.loads(answer)["data"]
            out = np.array(
                [row["embedding"] for row in sorted(data, key=lambda row: int(row["index"]))],
                dtype=np.float32,
            )
            places = sorted(int(row["index"]) for row in data)
        except (ValueError, KeyError, TypeError) as error:
            raise self._strange("not a list of embeddings") from error
        if out.ndim != 2 or places != list(range(len(texts))):
            raise self._strange(f"{len(data)} embeddings for {len(texts)} texts")
        if not np.isfinite(out).all():
            raise self._strange("embeddings that are not finite")
        return out

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_env):
            headers["Authorization"] = f"Bearer {key}"
        problem = ""
        for attempt in range(self.retries + 1):
            request = urllib.request.Request(  # noqa: S310 - the scheme is checked
                f"{self.url}/embeddings", data=body, headers=headers, method="POST"
            )
            wait = min(0.5 * 2**attempt, _LONGEST_WAIT)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}"
                with error:
                    detail = error.read(300).decode("utf-8", "replace")
                if error.code not in _AGAIN:
                    raise OnomaError(f"{problem}: {detail}", where=self.url) from error
                wait = _asked_wait(error.headers.get("Retry-After"), wait)
            except (OSError, http.client.HTTPException) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt < self.retries:
                time.sleep(wait)
        raise OnomaError(
            f"no answer after {self.retries + 1} tries ({problem})",
            where=self.url,
            fix="Check the address and that the service runs",
        )

    def _strange(self, what: str) -> OnomaError:
        return OnomaError(f"the service answered {what}", where=self.url)


def _asked_wait(header: str | None, otherwise: float) -> float:
    try:
        return min(max(float(header or ""), 0.0), _LONGEST_WAIT)
    except ValueError:
        return otherwise
