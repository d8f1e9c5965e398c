"""``onoma study annotation``: what helps is adopted, noise is not, and test decides nothing."""

import json

import numpy as np
import polars as pl
import pytest

from onoma.dataset import Dataset
from onoma.errors import OnomaError
from onoma.language import BadAnswer, Completion, LanguageModel
from onoma.language.base import Weights
from onoma.study import annotation as studies
from onoma.study.annotation_scores import SCORES
from onoma.study.annotation_steps import (
    Balanced,
    Examples,
    Job,
    Prompt,
    Scores,
    Structured,
    weighted_f1,
)
from onoma.study.annotation_tasks import Task, task

sklearn = pytest.importorskip("sklearn")


def reviews(n: int = 60) -> Dataset:
    """Half of the people are pleased and say so in words of their own."""
    rng = np.random.default_rng(0)
    words = {5: ["love", "great", "perfect"], 1: ["waste", "awful", "broke"]}
    rows = [
        {"user_id": f"u{i}", "item_id": f"i{i % 7}", "timestamp": i, "rating": float(stars),
         "review_text": f"Box {i} came on a {rng.choice(['Monday', 'Friday'])}, "
         f"{rng.choice(words[stars])} thing number {i}"
         + " indeed" * (i % 4 == 1) + "!" * (i % 5 == 0)}
        for i, stars in enumerate(rng.permutation([1, 5] * (n // 2)))
    ]  # fmt: skip
    return Dataset.construct(pl.DataFrame(rows), name="told")


@pytest.fixture(scope="module")
def about(tmp_path_factory) -> Task:
    data = reviews().save(tmp_path_factory.mktemp("reviews") / "told")
    return task(f"polarity:{data}", 20, 20, 20, 0)


class Annotator(LanguageModel):
    """Answers by ``says(question)``, and remembers what it was asked about."""

    identity = "annotator"

    def __init__(self, says):
        super().__init__()
        self.says, self.asked = says, []

    def complete(self, messages, *, schema=None, tools=None, decoding=None):
        text = messages[-1]["content"]
        self.asked.append(text)
        label = self.says(text)
        if label is None:
            raise BadAnswer("malformed", "no label", where=self.identity)
        return Completion(label, {"answer": label})


def by_examples(text: str) -> str:
    """Right where there are examples, for they show the answer; a coin otherwise."""
    told = json.loads(text) if text.startswith("{") else {}
    if told.get("examples"):
        pleased = any(word in told["text"] for word in ("love", "great", "perfect"))
        return "satisfied" if pleased else "disappointed"
    return "satisfied" if "Monday" in (told.get("text") or text) else "disappointed"


def test_what_helps_is_adopted_and_nothing_else(about):
    model = Annotator(by_examples)
    result = studies.tuned(about, model, (Structured(), Examples(), Scores()))
    adopted = [row["prompt"] for row in result["steps"] if row["adopted"]]
    assert adopted == ["structured, 3 examples"]
    assert result["tuned"]["f1"] == 1.0 and result["gain"]["low"] > 0
    # The first as many questions as there are prompts are of the validation texts alone.
    test = {about.texts[row] for row in about.test}
    tried = model.asked[: len(about.dev) * len(result["steps"])]
    assert not any(text in question for question in tried for text in test)
    assert len(model.asked) == len(about.dev) * len(result["steps"]) + 2 * len(about.test)


def test_noise_is_not_adopted(about):
    def noisy(text: str) -> str:
        return "satisfied" if hash_of(text) % 2 else "disappointed"

    adopted = 0
    for seed in range(5):
        model = Annotator(lambda text, seed=seed: noisy(text + str(seed)))
        result = studies.tuned(about, model, (Structured(), Examples()))
        adopted += sum(row["adopted"] for row in result["steps"])
    assert adopted <= 1  # one in twenty of ten proposals, with some luck


def hash_of(text: str) -> int:
    import hashlib

    return hashlib.sha256(text.encode()).digest()[0]


def test_the_score_that_tells_where_labels_are_wrong_is_tried_first(about):
    """Labels that are wrong where people shout: the predictor finds that out."""
    loud = set(about.dev[::3].tolist())
    texts = [text + ("!!!" if row in loud else "") for row, text in enumerate(about.texts)]
    shouted = Task(about.name, about.asked, about.labels, texts, about.truth, about.pool,
                   about.dev, about.test)  # fmt: skip

    def says(text: str) -> str:
        right = any(word in text for word in ("love", "great", "perfect"))
        return "satisfied" if right != ("!!!" in text) else "disappointed"

    job = Job(shouted, Annotator(says))
    first = next(Scores(("length", "emphasis")).proposals(job, Prompt(structured=True)))
    assert first.scores == ("emphasis",)
    told = json.loads(job.messages(first, int(about.dev[0]))[-1]["content"])
    assert told["scores"]["emphasis"] == job.table("emphasis")[int(about.dev[0])]


class Weigher(Annotator):
    """Knows the right label, and likes one so much that it always comes first."""

    able = frozenset({"complete", "logprobs"})

    def logprobs(self, prompt, continuations):
        text = prompt[-1]["content"]
        self.asked.append(text)
        right = self.says(text)
        liked = {"satisfied": 0.0, "disappointed": -3.0}
        found = np.array([liked[label] + (label == right) for label in continuations])
        return Weights(found, np.ones(len(found), dtype=np.int64))


def test_a_liking_for_one_label_is_balanced_away(about):
    def right(text: str) -> str:
        pleased = any(word in text for word in ("love", "great", "perfect"))
        return "satisfied" if pleased else "disappointed"

    model = Weigher(right)
    result = studies.tuned(about, model, (Balanced(), Structured()))
    assert result["initial"]["f1"] < 0.4 and result["tuned"]["f1"] == 1.0
    assert [row["prompt"] for row in result["steps"] if row["adopted"]] == ["plain, balanced"]
    # The pool is asked about once more; its labels, and the test texts, decide nothing.
    hidden = Task(about.name, about.asked, about.labels, about.texts, about.truth.copy(),
                  about.pool, about.dev, about.test)  # fmt: skip
    hidden.truth[about.pool] = 0
    assert studies.tuned(hidden, Weigher(right), (Balanced(),))["steps"] == result["steps"][:2]


def test_bad_answers_are_wrong_answers(about):
    result = studies.tuned(about, Annotator(lambda text: None), (Structured(),))
    assert result["tuned"]["f1"] == 0.0 and result["tuned"]["unanswered"] == len(about.test)


def test_examples_are_of_the_pool_and_never_the_text_itself(about):
    job = Job(about, Annotator(by_examples))
    pool = {about.texts[row] for row in about.pool}
    for row in (*about.pool[:5], *about.dev[:5]):
        told = json.loads(job.messages(Prompt(True, 3), int(row))[-1]["content"])
        shown = [example["text"] for example in told["examples"]]
        assert set(shown) <= pool and about.texts[row] not in shown and len(set(shown)) == 3


def test_parts_are_apart_and_every_score_says_something(about):
    parts = [set(part.tolist()) for part in (about.pool, about.dev, about.test)]
    assert all(len(part) == 20 for part in parts) and len(set.union(*parts)) == 60
    assert len({about.texts[row] for part in parts for row in part}) == 60
    for name, score in SCORES.items():
        assert len({json.dumps(value) for value in score(about)}) > 1, name


def test_no_question_is_asked_before_every_task_is_there(tmp_path):
    data = reviews().save(tmp_path / "told")
    model = Annotator(by_examples)
    with pytest.raises(OnomaError, match="nowhere"):
        studies.annotation(
            [f"polarity:{data}", "category:nowhere"], tmp_path / "out",
            model=model, pool=20, dev=20, test=20,
        )  # fmt: skip
    assert model.asked == []


def test_too_few_texts_are_told(tmp_path):
    data = reviews(20).save(tmp_path / "few")
    with pytest.raises(OnomaError, match="30 are needed"):
        task(f"polarity:{data}", 20, 20, 20, 0)
    with pytest.raises(OnomaError, match="is no task"):
        task("mood:DIR", 20, 20, 20, 0)


def test_a_catalogue_without_titles_is_told(tmp_path):
    log = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]})
    items = pl.DataFrame({"item_id": ["x", "y"], "categories": [["Top", "Bats"], ["Top", "Nets"]]})
    Dataset.construct(log, items).save(tmp_path / "untitled")
    with pytest.raises(OnomaError, match="0 labels with texts"):
        task(f"category:{tmp_path / 'untitled'}", 8, 8, 8, 0)


def test_f1_is_that_of_scikit_learn():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, said = rng.integers(0, 3, 40), rng.integers(-1, 3, 40)
        known = f1_score(truth, said, average="weighted", labels=[0, 1, 2], zero_division=0)
        assert weighted_f1(truth, said, 3) == pytest.approx(known)
