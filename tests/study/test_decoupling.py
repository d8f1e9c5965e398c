import json
from pathlib import Path

import numpy as np
import pytest
import torch

from onoma.cli.main import main
from onoma.dataset import Split
from onoma.errors import OnomaError
from onoma.neural.trainer import TrainSettings
from onoma.recipe import Recipe
from onoma.recommenders.ranking.clicks import auc
from onoma.recommenders.ranking.dare import DAREModule, DARESettings
from onoma.study import decoupling as study
from onoma.study.planted import planted

QUICK = TrainSettings(epochs=1, lr=0.01, valid_every=1)
SMALL = ["recommender.length=10", "recommender.train.epochs=1", "evaluate.cases=50",
         "evaluate.candidates.negatives=9"]  # fmt: skip


@pytest.fixture(scope="module")
def data(small_split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_split.dataset.save(tmp_path_factory.mktemp("data") / "small")


def test_what_is_planted_is_what_clicks_were_drawn_from() -> None:
    made = planted(20_000, seed=1)
    assert 0.78 < auc(made.logits, made.clicked) < 0.86
    np.testing.assert_allclose(made.weights.sum(1), 1)
    chance = 1 / (1 + np.exp(-made.logits))
    assert abs(float(made.clicked.mean() - chance.mean())) < 0.01
    # What bears on what is symmetric, and the same category bears most, at every place.
    kinds = made.kinds[:, 0]
    same = kinds[made.pairs.history] == kinds[made.pairs.items][:, None]
    assert (made.weights[same].mean() > 4 * made.weights[~same].mean()).all()
    again = planted(20_000, seed=1)
    assert torch.equal(again.pairs.history, made.pairs.history)
    assert not torch.equal(planted(20_000, seed=2).pairs.history, made.pairs.history)


def test_true_weights_are_found_to_be_true() -> None:
    """The figures of a model whose search is the planted one are those of a perfect search."""
    made = planted(4000, seed=0)
    module = DAREModule(made.kinds, DARESettings(length=20, keep=20)).eval()

    def attend(pairs, tables):
        columns = torch.arange(20).expand(len(pairs), -1)
        weights = torch.from_numpy(made.weights[: len(pairs)]).float()
        return weights, pairs.history, 20 - columns, columns

    module.attend = attend  # the rest of the module is its own
    found = study._looked_into(module, made)
    assert found["correlation"] == pytest.approx(1, abs=1e-4) and found["found"] == 1


def test_information_is_none_of_noise_and_all_of_the_label() -> None:
    clicked = np.arange(1000) % 2 == 0
    assert study.information(clicked.astype(np.int64), clicked) == pytest.approx(np.log(2))
    assert study.information(np.arange(1000) // 2 % 2, clicked) == pytest.approx(0, abs=1e-9)


def test_two_gradients_of_a_shared_table_add_up_to_the_whole() -> None:
    made = planted(256, seed=0)
    torch.manual_seed(0)
    module = DAREModule(made.kinds, DARESettings(length=20, tables="shared"))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    labels = torch.from_numpy(made.clicked).float()
    table = module.tables().read.detach()
    parts = [table.clone().requires_grad_() for _ in range(3)]
    for tables in ((0, 0, 1, 1), (2, 2, 2, 2)):
        logits = module.logits_by(made.pairs, study.Tables(*(parts[i] for i in tables)))
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
    torch.testing.assert_close(parts[0].grad + parts[1].grad, parts[2].grad, rtol=1e-3, atol=1e-6)
    told = study.conflict(module, made.pairs, labels)
    assert told["search"] == pytest.approx(float(parts[0].grad.norm()), rel=1e-4)
    assert told["reading"] == pytest.approx(float(parts[1].grad.norm()), rel=1e-4)
    assert 0 < told["against"] < 1


def test_a_study(tmp_path: Path, data: Path) -> None:
    def made() -> dict:
        words = [*SMALL, "recommender.width=8", "recommender.keep=5"]
        return study.decoupling(
            str(data), tmp_path, seeds=(0,), pairs=3000, train=QUICK, overrides=words, quiet=True
        )  # fmt: skip

    result = made()
    assert json.loads((tmp_path / "decoupling.json").read_text("utf-8")) == result
    rows = {row["arm"]: row for row in result["planted"]}
    assert list(rows) == [*study.MAIN, *study.CONTROLS]
    assert rows["shared"]["parameters"] < rows["decoupled"]["parameters"]
    assert rows["shared, twice as wide"]["parameters"] > rows["decoupled"]["parameters"]
    assert [arm for arm, row in rows.items() if "conflict" in row] == [
        "shared", "shared, twice as wide"
    ]  # fmt: skip
    assert {row["arm"] for row in result["data"]} == {*study.MAIN, "din"}
    assert len(result["acceptance"]) == 5 and "correlation" not in rows["din"]
    # Labels say what was trained, and din takes the words that it knows.
    asked = {
        path.parent.name: Recipe.load(str(path)).recommender
        for path in tmp_path.glob("*/recipe.yaml")
    }
    assert asked["decoupled"]["attention"] == asked["decoupled"]["width"] == 8
    assert asked["search-of-a-quarter"]["attention"] == 2
    assert asked["shared-twice-as-wide"]["width"] == asked["din"]["width"] == 16
    assert asked["decoupled"]["keep"] == 5 and asked["din"]["length"] == 10
    # Seconds of training and all: what was trained on planted clicks is kept.
    assert made()["planted"] == result["planted"]


def test_acceptance_holds_where_it_should() -> None:
    def asked(ours, wide, quarter, fast):
        rows = [
            {"arm": "decoupled", "parameters": 20, "auc": [ours], "correlation": [0.9]},
            {"arm": "search of a quarter", "parameters": 15, "auc": [quarter]},
            # Fewer parameters, so no rival.
            {"arm": "shared", "parameters": 19, "auc": [ours + 1], "correlation": [1.0]},
            {"arm": "shared, twice as wide", "parameters": 20, "auc": [wide],
             "correlation": [0.8 if wide < ours else 0.95]},
            {"arm": "projected", "parameters": 30, "auc": [0.5]},
        ]  # fmt: skip
        rows[2]["auc"] = [wide]
        made = {"planted": rows, "oracle": [0.8], "seconds": {"16": 3.0, "4": 3.0 / fast}}
        return [row["holds"] for row in study.acceptance(made)]

    assert asked(0.70, 0.69, 0.697, 2.0) == [True] * 5
    assert asked(0.60, 0.60, 0.59, 1.2) == [False] * 5


def test_bad_words(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OnomaError, match="at least 1,000"):
        study.decoupling(str(data), tmp_path, pairs=10)
    for where, words, said in (
        ("packaged:nothing", [], "nothing"),
        (str(data), ["recommender.keeps=1"], "keeps"),
        (str(data), ["recommender.width=6"], "no quarter"),
        (str(data), ["evaluate.candidates.negatives=999"], "candidates"),
    ):
        with pytest.raises(OnomaError, match=said):
            study.decoupling(where, tmp_path, pairs=1000, train=QUICK, overrides=words)
    assert not list(tmp_path.iterdir())  # before anything is trained
    with pytest.raises(SystemExit) as left:
        main(["study", "decoupling", "--data", "packaged:nothing", "--seeds", "0"])
    assert left.value.code == 2
