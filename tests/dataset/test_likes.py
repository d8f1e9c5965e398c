"""Yes-or-no questions: how ratings become them, and TALLRec's own files."""

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset
from onoma.dataset.likes import likes
from onoma.dataset.load import load
from onoma.dataset.rejects import Rejects
from onoma.errors import OnomaError


def rated(n_users=6, length=8, **columns):
    log = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{n}" for n in range(n_users)], length),
            "item_id": [f"i{(3 * n + k) % 20}" for n in range(n_users) for k in range(length)],
            "rating": [float(1 + (n + 2 * k) % 5) for n in range(n_users) for k in range(length)],
            "timestamp": [100 * k + n for n in range(n_users) for k in range(length)],
        }
    )
    return Dataset.construct(log.with_columns(**columns), name="rated")


def test_a_question_is_what_came_next_and_whether_it_was_liked():
    data = rated()
    parts = likes(data, seen=3, above=3)
    log = data.interactions
    for cases in (parts.asked, parts.valid, parts.test):
        for row in range(len(cases)):
            own = log.filter(pl.col("user") == int(cases.users[row])).sort("timestamp")
            items, stars = own["item"].to_list(), own["rating"].to_list()
            at = items.index(int(cases.targets[row][0]))
            assert cases.history[row].tolist() == items[at - 3 : at]
            assert cases.liked[row].tolist() == [int(s > 3) for s in stars[at - 3 : at]]
            assert bool(cases.labels[row]) == (stars[at] > 3)


def test_later_questions_are_held_out():
    data = rated(20, 12)
    parts = likes(data, seen=4, valid=0.2, test=0.2)
    when = {
        (int(u), int(i)): t
        for u, i, t in data.interactions.select("user", "item", "timestamp").iter_rows()
    }

    def times(cases):
        pairs = zip(cases.users, cases.targets.values, strict=True)
        return [when[(int(u), int(i))] for u, i in pairs]

    assert max(times(parts.asked)) < min(times(parts.valid))
    assert max(times(parts.valid)) < min(times(parts.test))
    held = {(int(c.users[r]), int(c.targets.values[r])) for c in (parts.valid, parts.test)
            for r in range(len(c))}  # fmt: skip
    trained = set(zip(parts.train.rows().tolist(), parts.train.values.tolist(), strict=True))
    assert held and not held & trained


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Dataset.construct(pl.DataFrame({"user_id": ["a"], "item_id": ["b"]})), "no ratings"),
        (rated(rating=pl.lit(None, dtype=pl.Float64)), "without a rating"),
        (rated(timestamp=pl.lit(None, dtype=pl.Int64)), "no timestamps"),
        (rated(part=pl.lit("exam"), judged=pl.lit(True)), "part is 'exam'"),
        (rated(part=pl.lit("train"), judged=pl.lit(True)), "no question to valid"),
    ],
)
def test_what_cannot_be_cut_is_named(data, said):
    with pytest.raises(OnomaError, match=said):
        likes(data, seen=3)


@pytest.fixture
def folder(tmp_path):
    """Two training records, one prompt to validate and one to test, and a catalogue beside."""
    films = tmp_path / "movielens-100k"
    films.mkdir()
    log = pl.DataFrame({"user_id": ["1", "1"], "item_id": ["7", "8"], "rating": [4.0, 2.0],
                        "timestamp": [1, 2]})  # fmt: skip
    log.write_parquet(films / "interactions.parquet")
    titles = ["Heat (1995)", 'The "Best" Film, Ever (1999)', "Alien (1979)"]
    pl.DataFrame({"item_id": ["7", "8", "9"], "title": titles}).write_parquet(
        films / "items.parquet"
    )
    own = tmp_path / "tallrec"
    own.mkdir()
    pl.DataFrame(
        {
            "user_id": ["5", "6"], "history": [["7", "8"], ["9"]], "history_liked": [[1, 0], [1]],
            "target": ["9", "7"], "liked": [1, 0], "timestamp": [1, 2],
        }
    ).write_parquet(own / "movie_train_ids.parquet")  # fmt: skip
    prompt = (
        'User Preference: "The "Best" Film, Ever (1999)", "Heat (1995)"\nUser Unpreference: \n'
        'Whether the user will like the target movie "Not Listed (2001)"?'
    )
    frame = pl.DataFrame(
        {"split": ["valid", "test"], "instruction": ["", ""], "input": [prompt, prompt],
         "output": ["Yes.", "No."]}
    )  # fmt: skip
    frame.write_parquet(own / "movie.parquet")
    return own


def test_tallrec_is_read_as_it_is_written(folder):
    data = load(folder)
    parts = likes(data)
    assert [len(parts.asked), len(parts.valid), len(parts.test)] == [2, 1, 1]
    assert data.titles(parts.test.history[0]) == ['The "Best" Film, Ever (1999)', "Heat (1995)"]
    assert parts.test.liked[0].tolist() == [1, 1]
    assert data.titles(parts.test.targets[0]) == ["Not Listed (2001)"]
    assert parts.valid.labels.tolist() == [True] and parts.test.labels.tolist() == [False]
    known = {data.items["item_id"][int(code)] for code in parts.asked.targets.values}
    assert known == {"9", "7"}


def test_films_are_found_by_title_and_year_and_likes_come_first(folder):
    """Some titles of MovieLens lack the year that a prompt writes behind all."""
    films = folder.parent / "movielens-100k" / "items.parquet"
    listed = pl.read_parquet(films).with_columns(year=pl.Series([1995, 1999, 1979]))
    listed.with_columns(title=pl.col("title").str.replace(r"^Heat .*", "Heat")).write_parquet(films)
    table = pl.read_parquet(folder / "movie_train_ids.parquet")
    dealt = table.with_columns(history_liked=pl.Series([[0, 1], [1]]))
    dealt.write_parquet(folder / "movie_train_ids.parquet")
    data = load(folder)
    parts = likes(data)
    ids = [data.items["item_id"][int(code)] for code in parts.test.history[0]]
    assert ids == ["8", "7"]
    first = next(row for row in range(2) if len(parts.asked.history[row]) == 2)
    assert parts.asked.liked[first].tolist() == [1, 0]


def test_a_prompt_that_is_none_is_named(folder):
    frame = pl.read_parquet(folder / "movie.parquet")
    bad = frame.with_columns(input=pl.when(pl.int_range(pl.len()) == 1).then(pl.lit("Who?"))
                             .otherwise("input"))  # fmt: skip
    bad.write_parquet(folder / "movie.parquet")
    with pytest.raises(OnomaError, match="not a prompt of TALLRec"):
        load(folder)
    with pytest.raises(OnomaError, match="no question to test"):
        likes(load(folder, rejects=Rejects("set-aside")))


def test_the_titles_are_missed(folder):
    (folder.parent / "movielens-100k").rename(folder.parent / "elsewhere")
    with pytest.raises(OnomaError, match="movielens-100k"):
        load(folder)


def test_the_real_files(data_folder):
    """Counts of the publication; every film but some thirty is found in MovieLens-100K."""
    parts = likes(load(data_folder / "tallrec"))
    assert [len(parts.asked), len(parts.valid), len(parts.test)] == [8000, 1000, 1000]
    assert {int(n) for n in parts.test.history.lengths} == {10}
    assert parts.test.labels.sum() == 528
    ids = parts.dataset.items["item_id"].to_list()
    assert sum(not name.isdigit() for name in ids) <= 30
