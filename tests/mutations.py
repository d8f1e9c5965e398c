"""Seeded broken inputs: good files of every form, damaged in every way a careless hand can."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

HOSTILE = [
    "",
    " ",
    "NaN",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e400",
    "99999999999999999999",
    "abc",
    "a,b",
    '"',
    '"a"b',
    "'; DROP TABLE items; --",
    "\x07",
    "💥",
    "=1+1",
    "../../etc/passwd",
    "a\nb",
    "a\tb",
    "null",
    "None",
    "1e3",
    "0x10",
    "１２",
    "2020-13-45",
    "x" * 5000,
    "true",
    "a|b",
    "\u202eabc",
]
JSON_HOSTILE = [None, True, [], {}, [1], {"a": 1}, "x", -1, 1e308, 2**70, 0.5, "\ud800", [[[]]]]


@dataclass(frozen=True)
class Mutation:
    """One damaged input.

    Attributes:
        label: which form, which damage, which number.
        path: the file or folder to give to the importer or loader.
        kind: ``data``, ``recipe`` or ``index``.
        files: names one of which an error must mention.
    """

    label: str
    path: Path
    kind: str
    files: tuple[str, ...]


def _log(n: int = 40) -> list[dict[str, object]]:
    return [
        {
            "user_id": f"u{r % 8}",
            "item_id": f"i{(r * 7) % 13}",
            "timestamp": 1_500_000_000 + r,
            "rating": float(r % 5 + 1),
        }
        for r in range(n)
    ]


def _catalogue() -> list[dict[str, object]]:
    return [{"item_id": f"i{i}", "title": f"Thing, {i}", "categories": "a|b"} for i in range(13)]


def _cell(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if "," in text else text


def _separated(rows: list[dict[str, object]], sign: str) -> bytes:
    lines = [sign.join(rows[0])]
    lines += [sign.join(_cell(v) for v in row.values()) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def _jsonl(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _csv(folder: Path) -> tuple[Path, list[Path]]:
    (folder / "log.csv").write_bytes(_separated(_log(), ","))
    return folder / "log.csv", [folder / "log.csv"]


def _tables(folder: Path) -> tuple[Path, list[Path]]:
    (folder / "interactions.csv").write_bytes(_separated(_log(), ","))
    (folder / "items.csv").write_bytes(_separated(_catalogue(), ","))
    return folder, [folder / "interactions.csv", folder / "items.csv"]


def _recbole(folder: Path) -> tuple[Path, list[Path]]:
    rows = [
        {
            "user_id:token": r["user_id"],
            "item_id:token": r["item_id"],
            "timestamp:float": r["timestamp"],
        }
        for r in _log()
    ]
    (folder / "toy.inter").write_bytes(_separated(rows, "\t"))
    return folder, [folder / "toy.inter"]


def _packed(folder: Path) -> tuple[Path, list[Path]]:
    (folder / "log.csv.gz").write_bytes(gzip.compress(_separated(_log(), ","), mtime=0))
    return folder / "log.csv.gz", [folder / "log.csv.gz"]


def _json_lines(folder: Path) -> tuple[Path, list[Path]]:
    (folder / "log.jsonl").write_bytes(_jsonl(_log()))
    return folder / "log.jsonl", [folder / "log.jsonl"]


def _amazon(folder: Path) -> tuple[Path, list[Path]]:
    reviews = [
        {
            "reviewerID": r["user_id"],
            "asin": r["item_id"],
            "overall": r["rating"],
            "unixReviewTime": r["timestamp"],
            "reviewText": "fine",
        }
        for r in _log()
    ]
    meta = [
        {"asin": r["item_id"], "title": r["title"], "categories": [["a", "b"]], "price": 1.5}
        for r in _catalogue()
    ]
    first, second = folder / "reviews_Toy_5.json.gz", folder / "meta_Toy.json.gz"
    first.write_bytes(gzip.compress(_jsonl(reviews), mtime=0))
    second.write_bytes(gzip.compress("".join(f"{m!r}\n" for m in meta).encode(), mtime=0))
    return first, [first, second]


def _movielens(folder: Path) -> tuple[Path, list[Path]]:
    lines = [f"{r % 8}::{r * 7 % 13}::{r % 5 + 1}::{978_300_000 + r}" for r in range(40)]
    (folder / "ratings.dat").write_bytes("\n".join(lines).encode())
    films = [f"{i}::Film {i} (1999)::Drama|War" for i in range(13)]
    (folder / "movies.dat").write_bytes("\n".join(films).encode())
    return folder, [folder / "ratings.dat", folder / "movies.dat"]


def _folder(folder: Path) -> tuple[Path, list[Path]]:
    (folder / "interactions.parquet").write_bytes(_parquet(pl.DataFrame(_log())))
    (folder / "items.parquet").write_bytes(_parquet(pl.DataFrame(_catalogue())))
    (folder / "dataset.json").write_text('{"name": "toy", "notes": {}}')
    return folder, [folder / n for n in ("interactions.parquet", "items.parquet", "dataset.json")]


FORMS: dict[str, Callable[[Path], tuple[Path, list[Path]]]] = {
    "csv": _csv,
    "tables": _tables,
    "recbole": _recbole,
    "gz": _packed,
    "jsonl": _json_lines,
    "amazon": _amazon,
    "movielens": _movielens,
    "folder": _folder,
}


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 60) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[: start + 50] + data[start:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    what = rng.choice(
        [
            b"\0",
            b"\xff\xfe",
            b'"',
            b"\n",
            b"\r",
            b",",
            b"\t",
            b"x" * 1_000_000,
            b"[" * 20_000,
            b"\xef\xbb\xbf",
            rng.randbytes(40),
            b"::",
            b"{",
            b"}",
        ]
    )
    start = rng.randrange(len(data))
    return data[:start] + what + data[start:]


def _replace(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"",
            b"\n",
            b"\0" * 100,
            b"hello",
            b"user_id,item_id\n",
            b"PAR1",
            b"\x1f\x8b",
            b"[]",
            b"{}",
            gzip.compress(b""),
            b"<html><body>404</body></html>",
            b"PK\x03\x04" + b"\0" * 60,
        ]
    )


def _line(data: bytes, rng: random.Random) -> bytes:
    """One cell, one line or the header of a text made hostile."""
    lines = data.decode("utf-8", "replace").split("\n")
    row = rng.randrange(len(lines))
    what = rng.randrange(6)
    sign = next((s for s in ("::", "\t", ",") if s in lines[0]), ",")
    if what == 0 and lines[row].startswith("{"):
        try:
            record = json.loads(lines[row])
            record[rng.choice(list(record))] = rng.choice(JSON_HOSTILE)
            lines[row] = json.dumps(record)
        except ValueError:
            lines[row] = lines[row].replace(":", "", 1)
    elif what <= 2:
        cells = lines[row].split(sign)
        cells[rng.randrange(len(cells))] = rng.choice(HOSTILE)
        lines[row] = sign.join(cells)
    elif what == 3:
        lines[row] = rng.choice(HOSTILE)
    elif what == 4:
        lines.insert(row, lines[row] + rng.choice(["", sign, sign + "more"]))
    else:
        cells = lines[0].split(sign)
        place = rng.randrange(len(cells))
        cells[place] = rng.choice(["", cells[0], "user_id", "item_id", "x", "💥", "a" * 3000])
        lines[0] = sign.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _encode(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace").replace("1", "é", 3)
    return text.encode(rng.choice(["utf-16", "latin-1", "utf-32", "utf-8-sig"]), "replace")


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncate": _truncate,
    "flip": _flip,
    "cut": _cut_out,
    "repeat": _repeat,
    "insert": _insert,
    "replace": _replace,
    "line": _line,
    "encode": _encode,
}


def _damaged(data: bytes, damage: str, rng: random.Random) -> bytes:
    # Half of the time damage of a compressed file is inside it, so that its reader is met too.
    if data[:2] == b"\x1f\x8b" and (damage in ("line", "encode") or rng.random() < 0.5):
        inside = gzip.decompress(data)
        return gzip.compress(DAMAGE[damage](inside, rng) if inside else inside, mtime=0)
    return DAMAGE[damage](data, rng)


def _wrong_columns(rng: random.Random) -> pl.DataFrame:
    """A log as Parquet whose columns have types or values that nobody promised."""
    frame = pl.DataFrame(_log())
    column = rng.choice(frame.columns)
    n = frame.height
    series: list[pl.Series] = [
        pl.Series(column, [None] * n),
        pl.Series(column, [[1, 2]] * n),
        pl.Series(column, [{"a": 1}] * n),
        pl.Series(column, [b"\xff\x00"] * n),
        pl.Series(column, [float("nan")] * n),
        pl.Series(column, [float("inf")] + [1.0] * (n - 1)),
        pl.Series(column, [True] * n),
        pl.Series(column, range(n)).cast(pl.Date),
        pl.Series(column, range(n)).cast(pl.Duration("us")),
        pl.Series(column, range(n)).cast(pl.Decimal(20, 2)),
        pl.Series(column, range(n)).cast(pl.Time),
        pl.Series(column, ["a"] * n).cast(pl.Categorical),
        pl.Series(column, [2**64 - 1] * n, dtype=pl.UInt64),
        pl.Series(column, [-1] * n),
        pl.Series(column, rng.choices(HOSTILE, k=n)),
    ]
    choice = rng.randrange(len(series) + 3)
    if choice < len(series):
        return frame.with_columns(series[choice])
    return [frame.drop(column), frame.head(0), pl.concat([frame, frame])][choice - len(series)]


RECIPE = """name: toy
recommender:
  name: popular
data:
  k_core: 5
seed: 3
"""
RECIPES = [
    "",
    "- a\n- b\n",
    "42",
    "!!python/object/apply:os.system ['true']",
    "{" * 5000,
    "a: &a [*a]",
    "name: [1]\nrecommender: {}\n",
    RECIPE + "unknown: 1\n",
    RECIPE.replace("5", "-5"),
    RECIPE.replace("3", "1e999"),
    RECIPE.replace("toy", "../../x"),
    RECIPE.replace("toy", "💥"),
    RECIPE.replace("  name: popular", "  name: no_such_system"),
    RECIPE + RECIPE,
    RECIPE.replace("data:", "data: 3\nother:"),
    "\t" + RECIPE,
    RECIPE.replace(":", "", 1),
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nname: *c\n",
    "name: " + "x" * 100_000,
    "? [a, b]\n: c\n",
    "2020-01-01: x\n",
    RECIPE.replace("popular", "{}"),
    "name: !!binary zz\n",
]


def index_files(folder: Path) -> None:
    """A good index, to be damaged."""
    from onoma.indexing.index import ItemIndex

    codes = np.stack([np.arange(20) // 5, np.arange(20) % 5], axis=1).astype(np.int32)
    ItemIndex(codes, (4, 5), "random", {}, {}).save(folder)


def mutations(
    root: Path, n: int = 500, seed: int = 0, kind: str | None = None
) -> Iterator[Mutation]:
    """``n`` damaged inputs, or those of one kind, each in a folder of its own below ``root``."""
    forms = list(FORMS)
    for number in range(n):
        turn = number % 10
        if kind not in (None, {8: "recipe", 9: "index"}.get(turn, "data")):
            continue
        rng = random.Random(f"{seed} {number}")
        folder = root / f"m{number}"
        folder.mkdir(parents=True)
        if turn == 7:
            path = folder / "log.parquet"
            path.write_bytes(_parquet(_wrong_columns(rng)))
            yield Mutation(f"{number}-parquet-columns", path, "data", (path.name,))
        elif turn == 8:
            path = folder / "recipe.yaml"
            pick = number // 10
            data = (
                RECIPES[pick].encode()
                if pick < len(RECIPES)
                else _damaged(RECIPE.encode(), rng.choice(list(DAMAGE)), rng)
            )
            path.write_bytes(data)
            yield Mutation(f"{number}-recipe", path, "recipe", (path.name,))
        elif turn == 9:
            index_files(folder / "index")
            path = rng.choice(sorted((folder / "index").iterdir()))
            path.write_bytes(_damaged(path.read_bytes(), rng.choice(list(DAMAGE)), rng))
            label = f"{number}-index-{path.suffix}"
            yield Mutation(label, folder / "index", "index", ("index", "item "))
        else:
            form, damage = rng.choice(forms), rng.choice(list(DAMAGE))
            path, files = FORMS[form](folder)
            victim = rng.choice(files)
            victim.write_bytes(_damaged(victim.read_bytes(), damage, rng))
            names = (*(f.name for f in files), path.name, "toy")
            yield Mutation(f"{number}-{form}-{damage}", path, "data", names)


def damaged_runs(finished: Path, root: Path, n: int = 100, seed: int = 0) -> Iterator[Mutation]:
    """``n`` copies of a run directory below ``root``, one file of each damaged or gone."""
    files = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    files = [f for f in files if f.suffix in (".json", ".yaml", ".safetensors", ".parquet")]
    for number in range(n):
        rng = random.Random(f"run {seed} {number}")
        folder = root / f"r{number}"
        shutil.copytree(finished, folder)
        victim, damage = folder / rng.choice(files), rng.choice([*DAMAGE, "delete"])
        if damage == "delete":
            victim.unlink()
        else:
            victim.write_bytes(_damaged(victim.read_bytes(), damage, rng))
        label = f"{number}-{victim.relative_to(folder)}-{damage}"
        yield Mutation(label, folder, "run", (folder.name, victim.name))
