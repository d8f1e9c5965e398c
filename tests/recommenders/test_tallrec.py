"""TALLRec and the rows beside it: the shared suite, then what is their own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance

sys.path.insert(0, str(Path(__file__).parents[1]))
from onoma.dataset import Cases, Dataset, Ragged
from onoma.dataset.likes import likes
from onoma.errors import OnomaError
from onoma.evaluation.likes import Judged, judged
from onoma.language.opening import open_model
from onoma.recipe import Recipe
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.liked import Liked
from onoma.recommenders.baselines.liked_sasrec import LikedSASRec
from onoma.recommenders.baselines.liked_texts import LikedTexts
from onoma.recommenders.tuned.tallrec import TALLRec
from onoma.run import open_run, run
from tiny import tiny_folder

pytest.importorskip("peft")
TFIDF = {"name": "tfidf", "dim": 16}


def tallrec(epochs=2, **settings):
    settings = {
        "model": str(tiny_folder()), "shots": 32, "batch": 8, "length": 4, "validated": 40,
        "train": {"epochs": epochs, "lr": 1e-2, "valid_every": epochs}, **settings,
    }  # fmt: skip
    return TALLRec(**{"quiet": True, **settings})


class TestTALLRec(Conformance):
    def make(self):
        return tallrec(length=2, layers=1)


class TestLiked(Conformance):
    personal = False

    def make(self):
        return Liked()


class TestLikedTexts(Conformance):
    def make(self):
        return LikedTexts(encoder=TFIDF)


class TestLikedSASRec(Conformance):
    def make(self):
        return LikedSASRec(length=2, width=8, train={"epochs": 2}, quiet=True)


@pytest.fixture(scope="module")
def moody():
    """People like everything or nothing; the history alone tells who is who."""
    draw = np.random.default_rng(0)
    rows = [
        (f"u{n}", f"i{item}", 5.0 if n % 2 else 1.0, 100 * step + n)
        for n in range(160)
        for step, item in enumerate(draw.permutation(30)[:6])
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(30)]})
    titles = items.with_columns(title=pl.concat_str(pl.lit("Film "), "item_id"))
    return Dataset.construct(log, titles, name="moody")


@pytest.fixture(scope="module")
def asked(moody):
    return likes(moody, seen=4)


def test_tuning_learns_from_few_answers(asked):
    """Neither the untuned model nor what items are worth tells who likes everything."""
    tuned = tallrec(epochs=12).fit(asked)
    assert judged(tuned, asked.test, asked).summary()["auc"] > 0.9
    assert judged(tallrec(shots=0).fit(asked), asked.test, asked).summary()["auc"] < 0.75
    assert judged(Liked().fit(asked), asked.test, asked).summary()["auc"] < 0.75
    assert tuned.training["steps"] == 12 * 4


def test_a_sequence_model_learns_the_same_answers(asked):
    """It reads likes, and draws the very questions that the language model does."""
    model = LikedSASRec(shots=64, length=4, train={"epochs": 40, "valid_every": 4}, quiet=True)
    assert judged(model.fit(asked), asked.test, asked).summary()["auc"] > 0.9
    mine, theirs = model._task(asked), tallrec(shots=64)._task(asked)
    assert np.array_equal(mine.asked.targets.values, theirs.asked.targets.values)


def test_intervals_draw_users_with_all_their_questions():
    """Ten questions of one user, all alike, tell no more than one."""
    draw = np.random.default_rng(0)
    scores, labels = draw.normal(size=60), np.arange(60) % 2 == 0
    one = Judged(scores + labels, labels, np.arange(60, dtype=np.int32), np.ones(60, np.int64))
    ten = Judged(*(np.repeat(getattr(one, name), 10) for name in ("scores", "labels", "users",
                                                                  "counts")))  # fmt: skip
    assert ten.summary()["ci95"] == one.summary()["ci95"]
    mixed = draw.permutation(600)  # in time, questions of a user do not follow each other
    apart = Judged(*(getattr(ten, name)[mixed] for name in ("scores", "labels", "users", "counts")))
    assert apart.summary()["ci95"]["auc"] == pytest.approx(one.summary()["ci95"]["auc"])
    other = Judged(scores, labels, one.users, one.counts)
    assert (
        one.above(other)["ci95"][0] < one.above(other)["difference"] < one.above(other)["ci95"][1]
    )


def test_likes_change_the_answer(asked):
    model = tallrec(epochs=1).fit(asked)
    history, items = Ragged.from_rows([[1, 2, 3]] * 2), np.array([[5], [5]], np.int32)
    flags = Ragged(history.offsets, np.array([1, 1, 1, 0, 0, 0], np.int8))
    told = model.recommend(Requests(history, candidates=items, liked=flags), 1).scores
    assert told[0, 0] != told[1, 0]
    untold = model.recommend(Requests(history, candidates=items), 1).scores
    assert untold[0, 0] == pytest.approx(told[0, 0], abs=1e-5)


def test_a_prompt_says_likes_dislikes_and_the_title(asked):
    model = tallrec(shots=0, length=2).fit(asked)
    cases = Cases(
        np.zeros(1, np.int32), Ragged.from_rows([[1, 2, 3]]), Ragged.from_rows([[4]]),
        liked=Ragged.from_rows([[1, 0, 1]]), labels=np.array([True]),
    )  # fmt: skip
    titles = asked.dataset.titles([1, 2, 3, 4])
    said = "".join(str(piece) for piece in model.pieces(cases.history[0], cases.liked[0], 4))
    assert f"liked the movies: {titles[2]}\n" in said and f"did not like: {titles[1]}\n" in said
    assert titles[0] not in said and f"like {titles[3]}?" in said


def test_the_adapter_is_what_was_tuned(asked, tmp_path):
    """The saved adapter, opened as a language model, weighs Yes against No as the model does."""
    model = tallrec(epochs=2).fit(asked)
    model.save(tmp_path)
    part = asked.test.take(np.arange(3))
    opened = open_model(
        {"model": str(tiny_folder()), "adapter": str(tmp_path / "adapter"), "cache": False}
    )
    for row, expected in enumerate(model.judge(part)):
        one = part.take(np.array([row]))
        tokens = model.composed(one).tokens[0].tolist()
        with torch.no_grad():
            logits = opened.network(input_ids=torch.tensor([tokens])).logits[0, -1]
        found = float(logits[model.module.yes] - logits[model.module.no])
        assert found == pytest.approx(expected, abs=1e-3)
    assert "Yes or No" in (tmp_path / "adapter" / "README.md").read_text()


def test_another_language_model_is_refused(asked, tmp_path):
    model = tallrec(epochs=1).fit(asked)
    model.save(tmp_path)
    record = json.loads((tmp_path / "model.json").read_text())
    record["settings"]["source"] = "torch:0000000000000000"
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(OnomaError, match="torch:0000000000000000"):
        TALLRec.load(tmp_path, asked.dataset)


def test_a_run_has_its_rows_beside_it(moody, tmp_path):
    data = moody.save(tmp_path / "moody")
    words = [
        f"recommender.model={tiny_folder()}", "recommender.train.epochs=1",
        "evaluate.beside=[liked, liked-sasrec]", "evaluate.examples=2", "data.seen=4",
        "recommender.shots=48",
    ]  # fmt: skip
    done = run(Recipe.load("tallrec", words), str(data), tmp_path / "run", quiet=True)
    figures = done.metrics
    assert 0 <= figures["test"]["auc"] <= 1 and figures["test"]["cases"] == len(done.split.test)
    assert figures["beside"]["liked"]["paired"]["metric"] == "auc"
    (sequence,) = tmp_path.glob("liked-sasrec-moody-*")
    assert open_run(sequence).recipe.recommender["shots"] == 48
    low, high = figures["test"]["ci95"]["auc"]
    assert low <= figures["test"]["auc"] <= high
    again = judged(done.recommender, done.split.test, done.split).summary()["auc"]
    assert again == pytest.approx(figures["test"]["auc"], abs=1e-6)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "AUC" in page and "liked" in page and "majority (right in" in page


def test_an_untuned_judge_leaves_the_rows_beside_their_questions(moody, tmp_path):
    data = moody.save(tmp_path / "moody")
    words = [f"recommender.model={tiny_folder()}", "recommender.shots=0", "data.seen=4"]
    recipe = Recipe.load("tallrec", [*words, "evaluate.beside=[liked-sasrec]"])
    run(recipe, str(data), tmp_path / "run", quiet=True)
    (sequence,) = tmp_path.glob("liked-sasrec-moody*")
    assert open_run(sequence).recipe.recommender["shots"] == 64


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_tallrec import asked_of, tallrec
tallrec(lora={{"dropout": 0.3}}, folder=Path(sys.argv[1]),
        train={{"epochs": 6, "lr": 1e-2, "valid_every": 2, "checkpoint_seconds": 0}},
        ).fit(asked_of(sys.argv[2])).save(sys.argv[1])
"""


def asked_of(folder):
    from onoma.dataset.load import load

    return likes(load(folder), seen=4)


def test_killed_and_resumed_gives_the_same_adapter(moody, tmp_path):
    """Updates that drop out, killed in the middle: the same bits as in one go."""
    data = moody.save(tmp_path / "moody")
    script = SCRIPT.format(paths=[str(Path(__file__).parent)])

    def start(name):
        return subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / name), str(data)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    assert start("whole").wait() == 0
    killed = start("killed")
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    for _ in range(600):
        if checkpoint.exists() or killed.poll() is not None:
            break
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "adapter").exists()
    assert start("killed").wait() == 0

    def bits(name):
        path = tmp_path / name / "adapter" / "adapter_model.safetensors"
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert bits("whole") == bits("killed")
