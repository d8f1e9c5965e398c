"""Every published form comes in; every bad row is named, counted and kept."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from onoma.dataset import Dataset
from onoma.dataset.amazon import literal_record
from onoma.dataset.load import load
from onoma.dataset.rejects import Rejects
from onoma.errors import OnomaError

GOOD = "user_id,item_id,timestamp,rating\na,x,1500000000,5\nb,y,1500000001,4\n"


def rows(dataset: Dataset) -> list[tuple[object, ...]]:
    log = dataset.with_ids(dataset.interactions)
    return list(log.select("user_id", "item_id", "timestamp").iter_rows())


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


TWO = [("a", "x", 1_500_000_000), ("b", "y", 1_500_000_001)]


@pytest.mark.parametrize(
    "name,text",
    [
        ("l.csv", GOOD),
        ("l.csv.gz", GOOD),
        ("l.csv", "\ufeff" + GOOD.replace("\n", "\r\n")),
        ("l.csv", GOOD.replace(",", ";")),
        ("l.tsv", GOOD.replace(",", "\t")),
        ("l.csv", 'userId,movieId,rating,timestamp\n"a",x,5,1500000000\nb,y,4,1500000001\n'),
        ("l.csv", "reviewerID,asin,unixReviewTime\na,x,1500000000000\nb,y,1500000001000\n"),
        ("l.csv", "user,item,date\na,x,2017-07-14T02:40:00Z\nb,y,2017-07-14T04:40:01+02:00\n"),
        ("l.csv", "user,item,time\na,x,2017-07-14 02:40:00\nb,y,2017-07-14 02:40:01\n"),
        (
            "l.inter",
            "user_id:token\titem_id:token\ttimestamp:float\na\tx\t1.5e9\nb\ty\t1500000001\n",
        ),
        (
            "l.jsonl",
            '{"user": "a", "item": "x", "ts": 1500000000}\n\n'
            '{"user": "b", "item": "y", "ts": 1500000001.0}\n',
        ),
    ],
)
def test_common_forms(tmp_path: Path, name: str, text: str) -> None:
    assert rows(load(write(tmp_path / name, text))) == TWO


def test_parquet_of_any_type(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "customer": [1.0, 2.0],
            "product": [7, 8],
            "when": [datetime(2017, 7, 14, 2, 40), datetime(2017, 7, 14, 2, 40, 1)],
        }
    )
    frame.write_parquet(tmp_path / "l.parquet")
    names = {"user_id": "customer", "item_id": "product", "timestamp": "when"}
    dataset = load(tmp_path / "l.parquet", rename=names)
    assert rows(dataset) == [("1", "7", 1_500_000_000), ("2", "8", 1_500_000_001)]


def test_header_and_encoding(tmp_path: Path) -> None:
    bare = write(tmp_path / "l.csv", GOOD.split("\n", 1)[1])
    with pytest.raises(OnomaError, match="no column for user_id.*--rename"):
        load(bare)
    assert rows(load(bare, columns=["user_id", "item_id", "timestamp", "rating"])) == TWO
    accent = write(tmp_path / "m.csv", GOOD.replace("b,y", "b,ÿ"), "latin-1")
    with pytest.raises(OnomaError, match=r"m.csv, line 3: not utf-8 text.*--encoding"):
        load(accent)
    assert rows(load(accent, encoding="latin-1"))[1][1] == "ÿ"
    assert rows(load(write(tmp_path / "n.csv", GOOD, "utf-16"))) == TWO


@pytest.mark.parametrize(
    "line,reason",
    [
        (",x,1,5", "no user id"),
        ("a,NaN,1,5", "no item id"),
        ("a,x,soon,5", "timestamp 'soon' is not a time"),
        ("a,x,-5,5", "timestamp '-5' is before 1970"),
        ("a,x,1500000000,good", "rating 'good' is not a number"),
        ("a,x,1500000000,inf", "rating 'inf' is not a number"),
        ("a,x", "2 fields where the header has 5"),
        ("a,x,1500000000,5,n,6", "6 fields where the header has 5"),
        ('a,"x,1500000000,5', "a quote that is never closed"),
        ("a" * 2000 + ",x,1500000000,5", "user id is longer than"),
    ],
)
def test_bad_rows(tmp_path: Path, line: str, reason: str) -> None:
    good = GOOD.replace("rating\n", "rating,note\n").replace(",5\n", ",5,n\n")
    good = good.replace(",4\n", ",4,n\n") + 'c,z,1500000002,3,"of ""two""\nlines"\n'
    if line.count(",") == 3 and '"' not in line:
        line += ",n"
    path = write(tmp_path / "l.csv", good + line + "\nd,x,1500000003,1,n\n")
    bad_line = good.count("\n") + 1
    with pytest.raises(OnomaError) as told:
        load(path)
    assert reason in str(told.value) and f"l.csv, line {bad_line}:" in str(told.value)
    rejects = Rejects("set-aside")
    dataset = load(path, rejects=rejects)
    assert dataset.n_interactions == 4 and len(rejects) == 1
    assert sum(dataset.notes["rejected"].values()) == 1
    rejects.write(tmp_path / "rejects.jsonl")
    kept = json.loads((tmp_path / "rejects.jsonl").read_text())
    assert kept["file"] == "l.csv" and kept["place"] == bad_line and reason in kept["reason"]
    # What only its value condemns is kept as it was read.
    assert kept["row"] == line or json.loads(kept["row"])["timestamp"] == -5


def test_at_most_n_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", GOOD + "a,x\n" * 3)
    assert load(path, rejects=Rejects(3)).n_interactions == 2
    with pytest.raises(OnomaError, match="2 more bad rows"):
        load(path, rejects=Rejects(2))
    with pytest.raises(OnomaError):
        Rejects.parse("-1")


def test_catalogue(tmp_path: Path) -> None:
    log = write(tmp_path / "interactions.csv", GOOD)
    write(tmp_path / "items.csv", "id,name,genre,price,code\nx,One,a|b,1.5,007\nw,Two,c,2,008\n")
    for dataset in (load(tmp_path), load(log, items=tmp_path / "items.csv")):
        items = dataset.items.sort("item_id")
        assert items["item_id"].to_list() == ["w", "x", "y"]
        assert items["categories"].to_list() == [["c"], ["a", "b"], None]
        assert items["price"].dtype == pl.Float64 and items["code"].dtype == pl.String
        assert dataset.notes["items_only_in_the_log"] == 1
    write(tmp_path / "items.csv", "id,name\nx,One\nx,Two\n")
    with pytest.raises(OnomaError, match="items.csv, line 3: item_id 'x' is listed again"):
        load(tmp_path)


def test_position_orders_where_there_is_no_time(tmp_path: Path) -> None:
    pl.DataFrame(
        {"user_id": list("aab"), "item_id": list("xyz"), "position": [1, 0, 0]}
    ).write_parquet(tmp_path / "interactions.parquet")
    dataset = load(tmp_path)
    assert [item for _, item, _ in rows(dataset)] == ["y", "x", "z"]
    assert "order" in dataset.notes


def test_movielens_forms(tmp_path: Path) -> None:
    small, dat, latest = (tmp_path / n for n in ("ml-100k", "ml-1m", "ml-latest"))
    for folder in (small, dat, latest):
        folder.mkdir()
    write(small / "u.data", "1\t10\t5\t880000000\n2\t11\t3\t880000001\n")
    flags = "|".join(["0"] * 5 + ["1"] + ["0"] * 13)
    write(small / "u.item", f"10|Misérables (1995)|01-Jan-1995||http://x|{flags}\n", "latin-1")
    write(small / "u.user", "1|24|M|technician|85711\n")
    write(dat / "ratings.dat", "1::10::5::880000000\n2::11::3::880000001\n")
    write(dat / "movies.dat", "10::Misérables (1995)::Comedy\n", "latin-1")
    write(dat / "users.dat", "1::M::24::17::85711\n")
    write(
        latest / "ratings.csv",
        "userId,movieId,rating,timestamp\n1,10,5.0,880000000\n2,11,3.0,880000001\n",
    )
    write(
        latest / "movies.csv",
        'movieId,title,genres\n10,"Misérables (1995)",Comedy\n12,Other,(no genres listed)\n',
    )
    for folder in (small, dat, latest):
        dataset = load(folder)
        assert rows(dataset) == [("1", "10", 880_000_000), ("2", "11", 880_000_001)]
        film = dataset.items.filter(pl.col("item_id") == "10").row(0, named=True)
        assert film["title"] == "Misérables (1995)" and film["year"] == 1995
        assert film["categories"] == ["Comedy"]
        assert dataset.interactions["rating"].to_list() == [5.0, 3.0]
    assert load(latest).items.filter(pl.col("item_id") == "12")["categories"].to_list() == [[]]


REVIEWS = {
    "reviews_Toy_5.json.gz": (
        {
            "reviewerID": "A1",
            "asin": "B000000001",
            "overall": 5.0,
            "unixReviewTime": 1400000000,
            "summary": "s",
            "reviewText": "t",
            "helpful": [0, 0],
        },
        "{'asin': 'B000000001', 'title': 'A &amp; B', 'brand': 'Z', 'price': 1.5, "
        "'categories': [['Toys', 'Cars'], ['Gifts']], 'description': 'd'}",
        "meta_Toy.json.gz",
    ),
    "Toy_5.json.gz": (
        {"reviewerID": "A1", "asin": "B000000001", "overall": 5.0, "unixReviewTime": 1400000000},
        json.dumps(
            {
                "asin": "B000000001",
                "title": "A & B",
                "brand": "Z",
                "price": "$1.50",
                "category": ["Toys", "Cars"],
                "description": ["d"],
            }
        ),
        "meta_Toy.json.gz",
    ),
    "Toy.jsonl.gz": (
        {
            "user_id": "A1",
            "parent_asin": "B000000001",
            "asin": "B0000000XX",
            "rating": 5.0,
            "timestamp": 1400000000123,
            "title": "s",
            "text": "t",
            "verified_purchase": True,
        },
        json.dumps(
            {
                "parent_asin": "B000000001",
                "title": "A & B",
                "store": "Z",
                "price": 1.5,
                "categories": ["Toys", "Cars"],
                "description": ["d"],
            }
        ),
        "meta_Toy.jsonl.gz",
    ),
}


@pytest.mark.parametrize("name", REVIEWS)
def test_amazon_years(tmp_path: Path, name: str) -> None:
    review, meta, meta_name = REVIEWS[name]
    write(tmp_path / name, json.dumps(review) + "\n")
    other = meta.replace("B000000001", "B000000002")
    write(tmp_path / meta_name, f"{meta}\n{meta}\n{other}\n")
    dataset = load(tmp_path / name)
    assert rows(dataset) == [("A1", "B000000001", 1_400_000_000)] and dataset.name == "Toy"
    assert dataset.items.row(0, named=True) == {
        "item_id": "B000000001",
        "title": "A & B",
        "brand": "Z",
        "categories": ["Toys", "Cars"],
        "description": "d",
        "features": None,
        "price": 1.5,
    }
    assert dataset.notes["repeated_metadata"] == 1
    assert load(tmp_path / name, all_items=True).n_items == 2
    if name == "Toy.jsonl.gz":
        assert load(tmp_path / name, texts=True).interactions["review_text"].to_list() == ["t"]


@pytest.mark.parametrize(
    "line",
    [
        "A1B2C3D4E5F6G7,B000000001,5.0,1400000000",
        "B000000001,A1B2C3D4E5F6G7,5.0,1400000000",
        "user_id,parent_asin,rating,timestamp\nA1B2C3D4E5F6G7,B000000001,5.0,1400000000123",
    ],
)
def test_amazon_ratings_only(tmp_path: Path, line: str) -> None:
    dataset = load(write(tmp_path / "ratings_Toy.csv", line + "\n"))
    assert rows(dataset) == [("A1B2C3D4E5F6G7", "B000000001", 1_400_000_000)]


def test_literals_are_never_run() -> None:
    assert literal_record("{'a': [1, None]}") == {"a": [1, None]}
    for hostile in ("__import__('os').getcwd()", "{'a': open('x')}", "(" * 50_000, "[1]"):
        with pytest.raises(ValueError):
            literal_record(hostile)


def test_a_million_rows(tmp_path: Path) -> None:
    n = 1_000_000
    index = pl.int_range(n, eager=True)
    pl.DataFrame(
        {
            "user_id": index % 50_021,
            "item_id": index * 7 % 20_011,
            "timestamp": 1_500_000_000 + index,
        }
    ).write_csv(tmp_path / "l.csv")
    dataset = load(tmp_path / "l.csv")
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (50_021, 20_011, n)
    assert dataset.interactions["timestamp"].is_sorted()


@pytest.mark.parametrize(
    "text,columns",
    [
        ("0,1400000000,106,5\n1,1400000001,107,4\n", ["user_id", "timestamp", "item_id", "rating"]),
        ("B00004U9V2,u1,4,1400000000\n", ["item_id", "user_id", "rating", "timestamp"]),
    ],
)
def test_named_columns_are_taken_at_their_word(tmp_path: Path, text: str, columns) -> None:
    """The first line of either could be Amazon's."""
    dataset = load(write(tmp_path / "l.csv", text), columns=columns)
    first = dict(zip(columns, text.splitlines()[0].split(","), strict=True))
    assert rows(dataset)[0] == (first["user_id"], first["item_id"], 1_400_000_000)


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "l.csv", GOOD)
    folder = load(log).save(tmp_path / "folder")
    items = write(tmp_path / "i.csv", "item_id,title,maker\nx,Red,A\n")
    for path, given in (
        (folder, {"items": items}),
        ("packaged:movielens", {"time_unit": "ms"}),
        (log, {"texts": True}),
        (write(tmp_path / "l.jsonl", '{"user": "a", "item": "x"}\n'), {"delimiter": ";"}),
        (log, {"rename": {"timestamp": "tmie"}}),
        (log, {"rename": {"brand": "mkaer"}, "items": items}),
        (log, {"rename": {"title": "tilte"}, "items": items}),
    ):
        name = next(iter(given))
        with pytest.raises(OnomaError, match=f"takes no '{name}'|no column"):
            load(path, **given)
    named = load(log, items=items, rename={"brand": "maker", "rating": "rating"})
    assert named.items["brand"].to_list().count("A") == 1


def test_a_unit_of_numbers_leaves_dates_alone(tmp_path: Path) -> None:
    text = "user,item,time\na,x,2017-07-14 02:40:00\nb,y,1500000001000\n"
    assert rows(load(write(tmp_path / "l.csv", text), time_unit="ms")) == TWO
    lines = '{"user": "a", "item": "x", "ts": "2017-07-14 02:40:00"}\n'
    assert rows(load(write(tmp_path / "l.jsonl", lines), time_unit="ms")) == TWO[:1]


def test_separators_of_several_characters_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "l.dat", 'a::x::1500000000\nb::y "z"::1500000001\n')
    dataset = load(path, delimiter="::", columns=["user_id", "item_id", "timestamp"])
    assert rows(dataset) == [TWO[0], ("b", 'y "z"', 1_500_000_001)]
