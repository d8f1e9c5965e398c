"""Any text file as plain UTF-8 on disk: decompressed, transcoded, checked, a chunk at a time."""

from __future__ import annotations

import codecs
import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from onoma.errors import OnomaError

_CHUNK = 1 << 23
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@contextmanager
def plain(
    path: str | Path, encoding: str = "utf-8", *, replace: tuple[str, str] | None = None
) -> Iterator[Path]:
    """The file as UTF-8 without compression or byte order mark; a temporary copy if it must be.

    Args:
        path: a text file, or one compressed with gzip (told by its first bytes).
        encoding: of the file; a byte order mark wins over it.
        replace: a text and what to put for it, such as a separator of two characters; the text
            must hold no line break.

    Raises:
        OnomaError: missing, empty, not this encoding (with line and byte), or cut short.
    """
    path = Path(path)
    encoding = _known(encoding, path)
    try:
        with path.open("rb") as raw:
            head = raw.read(4)
    except FileNotFoundError:
        raise OnomaError("no such file", where=str(path)) from None
    except IsADirectoryError:
        raise OnomaError("a folder where a file is needed", where=str(path)) from None
    except OSError as error:
        raise OnomaError(f"cannot be read ({error.strerror})", where=str(path)) from None
    if not head:
        raise OnomaError("the file is empty", where=str(path))
    packed = head[:2] == b"\x1f\x8b"
    if not packed and path.suffix == ".gz":
        raise OnomaError("named .gz but not compressed with gzip", where=str(path))
    with _opened(path, packed) as raw:
        start = _first_bytes(raw, path)
    mark = next((m for m in _BOMS if start.startswith(m)), None)
    encoding = _BOMS[mark] if mark else encoding
    if not packed and encoding == "utf-8" and replace is None:
        with path.open("rb") as raw:
            for _ in _decoded(raw, encoding, path):
                pass
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="onoma-") as folder:
        copy = Path(folder) / path.name.removesuffix(".gz")
        with _opened(path, packed) as raw, copy.open("wb") as out:
            held = ""
            for text in _decoded(raw, encoding, path):
                if replace is not None:
                    # What follows the last line break waits, so that no separator is cut in two.
                    cut = text.rfind("\n") + 1
                    text, held = (held + text[:cut], text[cut:]) if cut else ("", held + text)
                    text = text.replace(*replace)
                out.write(text.encode())
            if replace is not None:
                out.write(held.replace(*replace).encode())
        yield copy


def _known(encoding: str, path: Path) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise OnomaError(
            f"unknown encoding {encoding!r}", where=str(path), fix="Use utf-8, latin-1, cp1252, ..."
        ) from None


@contextmanager
def _opened(path: Path, packed: bool) -> Iterator[BinaryIO]:
    handle = gzip.open(path, "rb") if packed else path.open("rb")
    with handle:
        yield handle  # type: ignore[misc]


def _chunks(raw: BinaryIO, path: Path) -> Iterator[bytes]:
    while True:
        try:
            chunk = raw.read(_CHUNK)
        except EOFError:
            raise OnomaError(
                "the compressed file is cut short", where=str(path), fix="Fetch it again"
            ) from None
        except (OSError, zlib.error) as error:
            raise OnomaError(
                f"the compressed file is damaged ({error})", where=str(path), fix="Fetch it again"
            ) from None
        if not chunk:
            return
        yield chunk


def _first_bytes(raw: BinaryIO, path: Path) -> bytes:
    for chunk in _chunks(raw, path):
        return chunk[:4]
    raise OnomaError("the compressed file is empty", where=str(path))


def _decoded(raw: BinaryIO, encoding: str, path: Path) -> Iterator[str]:
    """Decoded chunks; a byte that does not fit is named by its line."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 0
    last = False
    chunks = _chunks(raw, path)
    while not last:
        chunk = next(chunks, None)
        last = chunk is None
        try:
            text = decoder.decode(chunk or b"", final=last)
        except UnicodeError as error:
            before = getattr(error, "object", b"")[: getattr(error, "start", 0)]
            line = lines + before.count(b"\n") + 1
            raise OnomaError(
                f"not {encoding} text",
                where=f"{path}, line {line}",
                fix="Name its encoding, for example --encoding latin-1",
            ) from None
        if "\0" in text:
            line = lines + text[: text.index("\0")].count("\n") + 1
            raise OnomaError(
                "a NUL byte; this is not a text file",
                where=f"{path}, line {line}",
                fix="Name its encoding, for example --encoding utf-16",
            )
        lines += text.count("\n")
        if text:
            yield text
