"""Answers on tape: what a model said once is said again without it.

A disk cache and a cassette are this one thing: a file of answers that are found by a hash of all
that the answer depends on, so nothing on it can answer a question that was not asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from onoma.errors import OnomaError
from onoma.language.base import Decoding, Usage

if sys.platform != "win32":
    import fcntl

FORMAT = 1  # of the file and of the keys
Line = dict[str, Any]  # key, verb, answer, usage and, where they are kept, question

_KEYS = {"key": str, "verb": str, "answer": dict, "usage": dict}


def key(identity: str, verb: str, question: Mapping[str, Any]) -> str:
    """Sixty-four hex digits over the model and all that it is asked.

    The order of the keys of a mapping inside the question counts: a schema's order shapes what a
    model writes.

    Args:
        identity: of the model.
        verb: what it is asked to do.
        question: all arguments by name: JSON values, mappings, sequences.
    """
    return hashlib.sha256(_json([FORMAT, identity, verb, sorted(question.items())])).hexdigest()


@dataclass(frozen=True)
class Header:
    """The first line of a tape.

    Attributes:
        model: identity of the model whose answers these are.
        able: its verbs.
        prices: of its tokens, as of :class:`onoma.language.Meter`.
        context: tokens that it reads at most; 0 where unknown.
        note: for people.
    """

    model: str
    able: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    context: int = 0
    note: str = ""

    def line(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "onoma-tape": FORMAT,
            "model": self.model,
            "able": list(self.able),
            "prices": dict(self.prices),
            "context": self.context,
            "note": self.note,
        }

    @classmethod
    def read(cls, record: Any, where: str) -> Header:
        """From what was written.

        Raises:
            OnomaError: the record is not that of a tape of this version.
        """
        try:
            if record["onoma-tape"] != FORMAT:
                raise ValueError
            return cls(
                model=str(record["model"]),
                able=tuple(str(verb) for verb in record["able"]),
                prices={str(k): float(v) for k, v in record["prices"].items()},
                context=int(record["context"]),
                note=str(record["note"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            what = f"line 1 does not begin a tape of version {FORMAT}"
            raise OnomaError(what, where=where, fix="Name another file") from None


class Tape:
    """A file of answers: one line about the model, then one JSON line an answer.

    Several threads and processes may add to one file: each adds whole lines under a lock, after a
    look at what others have added. A last line that was broken off is left out, and cut off by
    whoever adds the next one. Only hashes of questions are kept unless ``questions`` is set.

    Args:
        path: the file; it may be missing until something is added.
        questions: whether the questions are written too, for people to read.

    Attributes:
        header: the first line; None where nothing has been written yet.

    Raises:
        OnomaError: the file cannot be read, is no tape, or has a damaged line.
    """

    def __init__(self, path: str | Path, *, questions: bool = False) -> None:
        self.path, self.questions = Path(path), questions
        self.header: Header | None = None
        self._places: dict[str, tuple[int, int, int]] = {}  # key to offset, length and line
        self._end, self._lines = 0, 0  # what has been read of the file
        self._file: BinaryIO | None = None
        self._lock = threading.RLock()
        self._refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Line]:
        """The lines in the order of the file."""
        for name in list(self._places):
            line = self.get(name)
            assert line is not None
            yield line

    def start(self, header: Header) -> None:
        """Write the first line, or hold an existing one against the model.

        Raises:
            OnomaError: the tape holds answers of another model or of another context, or cannot
                be written.
        """
        if self.header is None:
            with self._adding() as file:
                if self._lines == 0:
                    self._write(file, header.line())
        there = self.header or Header("")
        what = ""
        if there.model != header.model:
            what = f"these are answers of {there.model}, not of {header.model}"
        elif there.context != header.context:  # it decides what is too long, and what is cut
            what = (
                f"these are answers by a model that reads {there.context} tokens, "
                f"not {header.context}"
            )
        if what:
            raise OnomaError(what, where=str(self.path), fix="Record to another file")

    def get(self, name: str) -> Line | None:
        """The line with this key; None where there is none.

        Raises:
            OnomaError: the line was damaged since the tape was opened.
        """
        with self._lock:
            if name not in self._places:
                self._refresh()
            if name not in self._places:
                return None
            offset, length, _ = self._places[name]
            line = _parsed(self._bytes(offset, length))
        if line is None or line.get("key") != name:
            raise self.damaged(name)
        return line

    def add(self, verb: str, answers: Sequence[tuple[str, Any, Usage, Any]]) -> list[Line]:
        """Write answers down; where somebody was faster, theirs stays.

        Args:
            verb: what was asked.
            answers: key, answer, usage and question of each.

        Returns:
            The lines that the tape now has for these keys.

        Raises:
            OnomaError: the file cannot be written.
        """
        with self._adding() as file:
            for name, answer, usage, question in answers:
                if name not in self._places:
                    took = {part: value for part, value in asdict(usage).items() if value}
                    line = {"key": name, "verb": verb, "answer": answer, "usage": took}
                    self._write(file, {**line, "question": question} if self.questions else line)
        return [there for name, *_ in answers if (there := self.get(name)) is not None]

    def damaged(self, name: str) -> OnomaError:
        """What to raise about the line with this key."""
        return self._damaged(self._places[name][2])

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _bytes(self, offset: int, length: int = -1) -> bytes:
        if self._file is None:
            self._file = cast(BinaryIO, self.path.open("rb", buffering=0))
        self._file.seek(offset)
        return self._file.read(length)

    @contextmanager
    def _adding(self) -> Iterator[BinaryIO]:
        """The file, locked, without a broken last line, and with all lines of others read."""
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = cast(BinaryIO, self.path.open("ab", buffering=0))
            except OSError as error:
                what = f"cannot be written ({error.strerror})"
                raise OnomaError(what, where=str(self.path)) from None
            with file:  # closing it lets go of the lock
                if sys.platform != "win32":
                    fcntl.flock(file, fcntl.LOCK_EX)
                self._refresh()
                if os.fstat(file.fileno()).st_size > self._end:
                    file.truncate(self._end)
                yield file

    def _write(self, file: BinaryIO, record: Mapping[str, Any]) -> None:
        line = _json(record) + b"\n"
        try:
            while line:
                line = line[file.write(line) :]
        except OSError as error:
            what = f"cannot be written ({error.strerror})"
            raise OnomaError(what, where=str(self.path)) from None
        self._refresh()

    def _refresh(self) -> None:
        """Read the whole lines that were added since."""
        with self._lock:
            try:
                if self._file is None and not self.path.exists():
                    return
                data = self._bytes(self._end)
            except OSError as error:
                what = f"cannot be read ({error.strerror})"
                raise OnomaError(what, where=str(self.path)) from None
            for raw in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
                parsed = _parsed(raw)
                if self._lines == 0:
                    self.header = Header.read(parsed, str(self.path))
                elif parsed is None or any(
                    not isinstance(parsed.get(part), kind) for part, kind in _KEYS.items()
                ):
                    raise self._damaged(self._lines + 1)
                else:
                    place = (self._end, len(raw), self._lines + 1)
                    self._places.setdefault(parsed["key"], place)
                self._end += len(raw)
                self._lines += 1

    def _damaged(self, line: int) -> OnomaError:
        return OnomaError(
            f"line {line} is damaged",
            where=str(self.path),
            fix="Take that line out, and its answer will be asked for again",
        )


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=_plain).encode("ascii")


def _plain(value: object) -> Any:
    if isinstance(value, Decoding):
        return {**asdict(value), "temperature": float(value.temperature)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not part of a question or an answer")


def _parsed(raw: bytes) -> Line | None:
    with suppress(ValueError, RecursionError):
        line = json.loads(raw)
        if isinstance(line, dict):
            return line
    return None
