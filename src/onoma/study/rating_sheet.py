"""Texts for people to judge, without saying who wrote them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from onoma.dataset.files import write_text
from onoma.errors import OnomaError

_HEAD = ("task", "case", "item", "rating", "about", "text", "wording", "rank", "remarks")


def write_sheets(
    samples: Sequence[Mapping[str, Any]], folder: Path, *, raters: int = 2, seed: int = 0
) -> list[Path]:
    """Write one ``sheet-N.csv`` a rater and ``sheet-key.csv``.

    A sheet groups the texts about one thing, lettered in an order drawn for each group and each
    rater; the rater fills in ``rank`` (1 for the best of its group). The key says which letter of
    which sheet is whose. Empty texts are on the sheet too: saying nothing is a way to fail.

    Args:
        samples: ``task``, ``case``, ``source``, ``text``, and ``item``, ``rating`` and ``about``,
            which the rater is told.
        folder: an existing one.
        raters: sheets.
        seed: of the letters.

    Returns:
        The files.
    """
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for sample in samples:
        groups.setdefault((str(sample["task"]), int(sample["case"])), []).append(sample)
    keys: list[tuple[object, ...]] = [("sheet", "task", "case", "text", "source")]
    files = []
    for rater in range(1, raters + 1):
        rows: list[tuple[object, ...]] = [_HEAD]
        rng = np.random.default_rng([seed, rater])
        for (task, case), members in groups.items():
            for letter, place in zip(
                ascii_uppercase, rng.permutation(len(members)).tolist(), strict=False
            ):
                one = members[place]
                told = (one.get(name, "") for name in ("item", "rating", "about"))
                rows.append((task, case, *told, letter, one["text"], "", ""))
                keys.append((rater, task, case, letter, one["source"]))
        files.append(folder / f"sheet-{rater}.csv")
        write_text(_csv(rows), files[-1])
    files.append(folder / "sheet-key.csv")
    write_text(_csv(keys), files[-1])
    return files


def read_sheets(folder: Path) -> dict[str, Any]:
    """What the raters said, once the sheets are filled in.

    Returns:
        ``ranks``: of each task and source the mean rank (1 is best) and the number of texts that
        were ranked; ``agreement``: Spearman's correlation of the first two raters' ranks of the
        same texts, None where they have fewer than three in common.

    Raises:
        OnomaError: a sheet or the key is missing or not as it was written.
    """
    from scipy.stats import spearmanr

    key = {
        (row["sheet"], row["task"], row["case"], row["text"]): row["source"]
        for row in _read(folder / "sheet-key.csv")
    }
    ranks: dict[str, dict[str, list[float]]] = {}
    said: dict[str, dict[tuple[str, ...], float]] = {}
    for sheet in sorted({name for name, *_ in key}):
        for row in _read(folder / f"sheet-{sheet}.csv"):
            if not (row.get("rank") or "").strip():
                continue
            where = (sheet, row["task"], row["case"], row["text"])
            try:
                source, rank = key[where], float(row["rank"])
            except (KeyError, ValueError):
                raise OnomaError(
                    f"{row['rank']!r} for text {row['text']} of {row['task']} {row['case']}",
                    where=str(folder / f"sheet-{sheet}.csv"),
                    fix="A rank is a number, and the other columns stay as they are",
                ) from None
            ranks.setdefault(row["task"], {}).setdefault(source, []).append(rank)
            said.setdefault(sheet, {})[(row["task"], row["case"], source)] = rank
    agreement = None
    if len(said) >= 2:
        one, two = list(said.values())[:2]
        both = sorted(one.keys() & two.keys())
        if len(both) >= 3:
            found = spearmanr([one[text] for text in both], [two[text] for text in both])
            agreement = float(found.statistic)
    return {
        "ranks": {
            task: {
                source: {"mean": float(np.mean(values)), "texts": len(values)}
                for source, values in by.items()
            }
            for task, by in ranks.items()
        },
        "agreement": agreement,
    }


def _csv(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [[_cell(value) for value in row] for row in rows]
    )
    return out.getvalue()


def _cell(value: object) -> str:
    """A text that no spreadsheet takes for a formula."""
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OnomaError(f"cannot be read ({error})", where=str(path)) from error
    wanted = {"task", "case", "text"}
    if rows and not wanted <= rows[0].keys():
        raise OnomaError("not a sheet of this study", where=str(path))
    return rows
