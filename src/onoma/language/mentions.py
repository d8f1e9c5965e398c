"""A free answer to the items that it lists."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_FENCE = re.compile(r"```[\w-]*\n(.*?)(?:```|\Z)", re.S)
_BULLET = re.compile(r"^\s*[-*•‣–+]\s+(?=\S)")
_NUMBER = re.compile(r"^\s*\(?\d{1,3}[.)]\s+(?=\S)")
_MARKER = re.compile(rf"{_NUMBER.pattern}|{_BULLET.pattern}")
_LETTER = re.compile(r"^\s*\(?[A-Za-z][.)]\s+(?=\S)")
_INLINE = re.compile(r"(?:^|\s)\(?(\d{1,3})[.)]\s+(?=\S)")
_YEAR = r"\s*[(\[]\d{4}(?:\s*[-–]\s*(?:\d{4})?)?[)\]]"
_BOLD = re.compile(rf"(\*\*|__)(.+?)\1({_YEAR})?")
_QUOTED = re.compile(rf"(?:\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|‘([^’]+)’)({_YEAR})?")
_AFTER_YEAR = re.compile(rf"^(.+?{_YEAR})(?=\s*(?:[-–—:;,.]|by\b|\s\w)|$)")
_FIELDS = ("title", "name", "item", "movie", "book", "product")


def mentions(text: str, known: Callable[[str], bool] = lambda part: False) -> list[str]:
    """Cut an answer into the items that it lists.

    Read are a JSON array (of texts, or of objects with a title or name), also inside a fence;
    lines with numbers, letters or bullets, without the lines around and the bullets below them;
    numbers inside one line; quoted or bold titles; lines; and titles with commas in between.
    Behind a title in quotes, in bold or with a year, remarks are left out.

    Args:
        text: the answer.
        known: whether a text is a title: a comma list is cut so that known titles with commas
            stay whole.

    Returns:
        The mentions in their order, none empty.
    """
    fence = _FENCE.search(text)
    if fence:
        text = fence[1]
    found = _of_json(text)
    if found is None:
        found = _of_lines(text, known)
    return [one for one in (" ".join(one.split()) for one in found) if one.strip("[]{},:")]


def _of_json(text: str) -> list[str] | None:
    begin = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=-1)
    if begin < 0:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None
    # A list of numbers, or brackets inside a sentence, is something else.
    if isinstance(value, dict):
        value = next((part for part in value.values() if isinstance(part, list)), [value])
    if not isinstance(value, list):
        return None
    names = [_name(part) for part in value]
    return [name for name in names if name] if any(names) else None


def _name(value: Any) -> str:
    if isinstance(value, dict):
        texts = [value[field] for field in _FIELDS if isinstance(value.get(field), str)]
        return str(texts[0]) if texts else ""
    return value if isinstance(value, str) else ""


def _of_lines(text: str, known: Callable[[str], bool]) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        if marked := _listed(lines, known):
            return marked
        lettered = [line for line in lines if _LETTER.match(line)]
        if len(lettered) > 1:
            return [_title(_LETTER.sub("", line, count=1)) for line in lettered]
        return [_title(line) for line in lines if not line.rstrip().endswith(":")]
    if not lines:
        return []
    line = lines[0].strip()
    if known(line):
        return [line]
    numbers = list(_INLINE.finditer(line))
    if len(numbers) > 1 and [int(one[1]) for one in numbers] == list(
        range(int(numbers[0][1]), int(numbers[0][1]) + len(numbers))
    ):
        ends = [*(one.start() for one in numbers[1:]), len(line)]
        parts = [line[one.end() : end] for one, end in zip(numbers, ends, strict=True)]
        return [_title(part.strip().rstrip(",;")) for part in parts]
    line = _MARKER.sub("", line, count=1)
    quoted = [*_BOLD.finditer(line)] or [*_QUOTED.finditer(line)]
    shown = ["".join(_shown(one)) for one in quoted]
    if len(shown) > 1 or (shown and known(shown[0])):
        return shown
    return _of_commas(line, known)


def _listed(lines: list[str], known: Callable[[str], bool]) -> list[str]:
    """Titles behind numbers, else behind the outermost bullets: what lies below are remarks."""
    numbered = [line for line in lines if _NUMBER.match(line)]
    bulleted = [line for line in lines if _BULLET.match(line)]
    titles = [_title(_NUMBER.sub("", line, count=1)) for line in numbered]
    if not bulleted:
        return titles
    # A step down is two spaces or more; the first line of an answer may have lost one.
    outer = min(map(_indent, bulleted)) + 1
    # Numbers may also count remarks under bullets, or headings above them.
    headings = all(line.rstrip().endswith(":") for line in numbered) and not any(map(known, titles))
    if numbered and not headings and min(map(_indent, numbered)) <= outer:
        return titles
    return [_title(_BULLET.sub("", line, count=1)) for line in bulleted if _indent(line) <= outer]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _of_commas(line: str, known: Callable[[str], bool]) -> list[str]:
    """Parts between commas, joined again where only together they are a title."""
    if known(line):
        return [line]
    parts = re.split(r"\s*;\s*" if ";" in line else r"\s*,\s*", line.strip().rstrip("."))
    if len(parts) < 2:
        return [_title(line)]
    if not known(parts[-1]):
        before, word, last = parts[-1].rpartition(" and ")
        if word and not before and last:
            parts[-1] = last
        elif word and (known(before) or known(last)):
            parts[-1:] = [before, last]
        elif parts[-1].startswith("and "):
            parts[-1] = parts[-1][4:]
    out: list[str] = []
    begin = 0
    while begin < len(parts):
        end = begin + 1
        for longer in range(min(len(parts), begin + 6), begin + 1, -1):
            if known(", ".join(parts[begin:longer])):
                end = longer
                break
        out.append(_title(", ".join(parts[begin:end])))
        begin = end
    return out


def _shown(found: re.Match[str]) -> list[str]:
    """The title of a bold or quoted match and the year behind it."""
    groups = [part for part in found.groups() if part and part not in ("**", "__")]
    return [groups[0].strip().strip('"“”'), *groups[1:]]


def _title(line: str) -> str:
    """A title without decoration and remarks."""
    line = line.strip()
    for pattern in (_BOLD, _QUOTED):
        if found := pattern.match(line):
            return "".join(_shown(found))
    line = line.strip("*_` ")
    if found := _AFTER_YEAR.match(line):
        line = found[1]
    if len(line) > 1 and line[0] == line[-1] == "'":
        line = line[1:-1]
    return line
