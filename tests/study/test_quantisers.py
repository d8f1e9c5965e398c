import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onoma.cli.main import main
from onoma.dataset import Dataset
from onoma.errors import OnomaError
from onoma.indexing import build
from onoma.study import quantisers as study

WORDS = "red blue green hair skin nail oil cream soap brush mask kit fresh pure soft gold".split()
QUICK = ("rqkmeans", "pq", "opq", "uniform", "lsh")


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    ids = [f"i{i}" for i in range(1100)]
    titles = [" ".join(rng.choice(WORDS, 6)) for _ in ids]
    titles[:30] = titles[30:60]
    log = pl.DataFrame({"user_id": [f"u{i % 50}" for i in range(1100)], "item_id": ids})
    data = Dataset.construct(log, pl.DataFrame({"item_id": ids, "title": titles}), name="shop")
    return data.save(tmp_path_factory.mktemp("shop") / "data")


def test_a_study_of_quantisers(shop: Path, tmp_path: Path) -> None:
    result = study.quantisers(str(shop), tmp_path, methods=QUICK)
    assert json.loads((tmp_path / "quantisers.json").read_text("utf-8")) == result
    assert "recall@10" in (tmp_path / "quantisers.html").read_text("utf-8")
    rows = {row["method"]: row for row in result["codes"]}
    assert list(rows) == list(QUICK) and all(row["bits"] == 32 for row in rows.values())
    assert rows["rqkmeans"]["error"] < rows["pq"]["error"] and rows["lsh"]["error"] is None
    assert rows["opq"]["error"] < 1.02 * rows["pq"]["error"]
    assert rows["uniform"]["collisions"] == 0 and rows["uniform"]["names"] == 1100
    # Nothing tells items of one vector apart.
    assert rows["rqkmeans"]["collisions"] >= result["identical"] > 0
    asked = {row["asked"]: row["holds"] for row in result["acceptance"]}
    assert asked["uniform 4 x 256: no collisions after assignment"] is True
    # rqvae and parallel were not tried.
    assert len(asked) == 6


def test_search_by_codes_is_search_by_what_they_decode_to(monkeypatch) -> None:
    monkeypatch.setattr(study, "CANDIDATES", 15)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(1300, 16)).astype(np.float32)
    vectors[:40] = vectors[40:80]  # equal items stand in for each other
    vectors[-1] = 0
    index = build("pq", levels=8, size=16).name_vectors(vectors)
    said = index.reconstruct()
    kept = np.arange(1299)
    asked = np.sort(np.random.default_rng(0).permutation(1299)[: study.QUERIES])
    found = 0
    for query in asked:
        others = kept[kept != query]
        far = np.square(vectors[others] - vectors[query]).sum(1)
        guess = np.square(said[others] - vectors[query]).sum(1)
        near = np.argsort(guess, kind="stable")[:15]
        found += int((np.sort(far[near])[:10] <= np.sort(far)[9] + 1e-5).sum())
    assert study.search_recall(vectors, index) == pytest.approx(found / 10 / len(asked), abs=5e-4)
    assert 0.2 < found / 10 / len(asked) < 0.95
    assert study.search_recall(vectors, build("lsh").name_vectors(vectors)) is None


def test_acceptance_holds_where_it_should() -> None:
    def asked(pq, found, greedy, used, repeated):
        return [row["holds"] for row in study.acceptance({
            "codes": [{"method": "rqkmeans", "error": 0.1}, {"method": "opq", "error": 0.2},
                      {"method": "pq", "error": pq, "repeats": 0.4},
                      {"method": "parallel", "used": [1, used], "repeats": repeated}],
            "search": [{"method": "pq", "recall@10": found}],
            "uniform": {"greedy": greedy, "after_transport": 0.004, "after_assignment": 0.0,
                        "perplexity": [10, 11], "moved": 0},
            "three_levels": [{"method": "rqvae", "used": [1, used], "collisions": 0.09}],
        })]  # fmt: skip

    assert asked(0.21, 0.99, 0.04, 0.8, 0.2) == [True] * 10
    no = asked(0.15, 0.97, 0.02, 0.7, 0.21)
    assert no == [False] * 4 + [True, True, False, True, False, False]


def test_levels_repeat_each_other_by_what_they_share_beyond_chance() -> None:
    first, second = np.random.default_rng(0).integers(0, 16, (2, 4000))
    assert study.repeats(np.stack([first, first * 3 % 16], 1)) == pytest.approx(1)
    assert abs(study.repeats(np.stack([first, second], 1))) < 0.01
    assert study.repeats(np.stack([first, first, second], 1)) == pytest.approx(1 / 3, abs=0.01)


def test_bad_words(shop: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(OnomaError, match="no quantiser is called 'nope'"):
        study.quantisers(str(shop), tmp_path, methods=["nope"])
    log = tmp_path / "few.csv"
    log.write_text("user_id,item_id\n" + "".join(f"u{i % 3},i{i}\n" for i in range(30)))
    with pytest.raises(OnomaError, match="too few"):
        study.quantisers(str(log), tmp_path, encoder="collaborative")
    words = ["study", "quantisers", "--data", str(shop), "--out", str(tmp_path / "out"),
             "--method", "pq", "--method", "rqkmeans"]  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main(words)
    assert not left.value.code
    assert "error of rqkmeans at most 0.6 of pq's" in capsys.readouterr().out
