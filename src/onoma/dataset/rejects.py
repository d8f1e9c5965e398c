"""Rows that cannot be used: where they stand, why, and what the user wants done about them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from onoma.dataset.files import replacing
from onoma.errors import OnomaError

Policy = Literal["refuse", "set-aside"]
_SHOWN = 80
LONGEST_ROW = 65_536  # characters of a bad row that are kept
_SCHEMA = {
    "file": pl.String,
    "place": pl.Int64,
    "unit": pl.String,
    "reason": pl.String,
    "row": pl.String,
}


@dataclass
class Rejects:
    """The bad rows of one import; nothing is dropped without passing through here.

    Attributes:
        policy: ``refuse`` (the first bad row ends the import), ``set-aside`` (they are kept out
            and written to ``rejects.jsonl``), or a number (set aside at most that many).
    """

    policy: Policy | int = "refuse"
    _frames: list[pl.DataFrame] = field(default_factory=list, repr=False)
    _count: int = 0

    @classmethod
    def parse(cls, text: str) -> Rejects:
        """From ``refuse``, ``set-aside`` or a number, as the command line takes it.

        Raises:
            OnomaError: anything else.
        """
        if text in ("refuse", "set-aside"):
            return cls(text)  # type: ignore[arg-type]
        if text.isascii() and text.isdigit() and len(text) < 16:
            return cls(int(text))
        raise OnomaError(
            f"bad rows can be refused or set aside, not {text[:40]!r}",
            where="--bad-rows",
            fix="Use refuse, set-aside or the largest number to set aside",
        )

    def __len__(self) -> int:
        return self._count

    def add(self, file: str | Path, rows: pl.DataFrame, unit: str = "line") -> None:
        """Take bad rows.

        Args:
            file: where they come from.
            rows: ``place`` (1-based line or row), ``reason`` and ``row`` (its text).
            unit: ``line`` of a text file or ``row`` of a table.

        Raises:
            OnomaError: the policy does not allow so many; the line names the first.
        """
        if not rows.height:
            return
        name = Path(file).name
        rows = rows.select(
            pl.lit(name).alias("file"),
            pl.col("place").cast(pl.Int64),
            pl.lit(unit).alias("unit"),
            "reason",
            "row",
        ).sort("place")
        self._frames.append(rows.cast(_SCHEMA))  # type: ignore[arg-type]
        self._count += rows.height
        allowed = {"refuse": 0, "set-aside": None}.get(str(self.policy), self.policy)
        if allowed is not None and self._count > int(allowed):
            first = self._frames[0].row(0, named=True)
            others = self._count - 1
            more = f" ({others} more bad row{'s' if others > 1 else ''} so far)" if others else ""
            raise OnomaError(
                first["reason"] + more,
                where=f"{first['file']}, {first['unit']} {first['place']}",
                fix="Correct the file, or keep bad rows out with --bad-rows set-aside",
            )

    @property
    def table(self) -> pl.DataFrame:
        """Columns ``file``, ``place``, ``unit``, ``reason``, ``row``."""
        return pl.concat(self._frames) if self._frames else pl.DataFrame(schema=_SCHEMA)

    def by_reason(self) -> dict[str, int]:
        """How many rows of each kind of trouble; quoted values are left out of the kind."""
        kinds = self.table.select(pl.col("reason").str.replace_all(r"'[^']*'", "…").alias("kind"))
        counts = kinds.group_by("kind").len().sort("len", "kind", descending=[True, False])
        return {str(kind): int(number) for kind, number in counts.iter_rows()}

    def write(self, path: str | Path) -> None:
        """Write ``rejects.jsonl``: one object a bad row, in one step."""
        buffer = io.BytesIO()
        self.table.write_ndjson(buffer)
        with replacing(Path(path)) as beside:
            beside.write_bytes(buffer.getvalue())


def shorten(text: str) -> str:
    """A value as an error line shows it."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def without_bad(
    frame: pl.DataFrame,
    path: Path,
    rejects: Rejects,
    unit: str = "line",
    raw: Mapping[int, str] | None = None,
) -> pl.DataFrame:
    """The rows whose ``_why`` is null; the others go to ``rejects``.

    Args:
        frame: with ``_why`` and ``_place``.
        path: of the file.
        rejects: takes them.
        unit: what a place counts.
        raw: the text of each place, as the file has it; else the row as read, in JSON.

    Raises:
        OnomaError: more than the policy allows.
    """
    if frame["_why"].null_count() == frame.height:
        return frame
    bad = frame.filter(pl.col("_why").is_not_null())
    places = bad["_place"].cast(pl.Int64)
    if raw is not None:
        text = pl.Series([raw[place] for place in places], dtype=pl.String)
    else:
        values = [c for c in bad.columns if c not in ("_why", "_place")]
        text = bad.select(pl.struct(values).struct.json_encode()).to_series()
    rows = pl.DataFrame(
        {
            "place": places,
            "reason": bad["_why"],
            "row": text.str.slice(0, LONGEST_ROW),
        }
    )
    rejects.add(path, rows, unit)
    return frame.filter(pl.col("_why").is_null())
