"""ConsRec: the shared suite, then what is its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.dataset.noise import with_noise
from onoma.encoding.base import unit_rows
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.sequential.consistent import consistent
from onoma.recommenders.sequential.consrec import ConsRec
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.sequential.textspace import SpaceSettings, TextSpace, _Around, learnt

OF = {"name": "sasrec", "width": 16, "blocks": 1, "heads": 1, "length": 20,
      "train": {"epochs": 4, "lr": 1e-2, "batch_tokens": 256}}  # fmt: skip
SPACE = {"hidden": 16, "length": 5, "train": {"epochs": 3, "lr": 3e-3, "valid_every": 1}}
SET = {"of": OF, "encoder": "tfidf", "space": SPACE, "thresholds": (0.2, 0.4)}


def consrec(**settings):
    return ConsRec(quiet=True, **{**SET, **settings})


class TestConsRec(Conformance):
    def make(self):
        return consrec()


@pytest.fixture(scope="module")
def fitted(small_split):
    return consrec().fit(small_split)


def by_search(row, vectors, threshold):
    """The same by breadth-first search, one history at a time."""
    items = list(dict.fromkeys(row))
    newest = {item: place for place, item in enumerate(row)}
    left, parts = set(items), []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            part.add(at := edge.pop())
            near = {other for other in left if vectors[at] @ vectors[other] > threshold}
            left -= near
            edge += near
        parts.append(part)
    best = max(parts, key=lambda part: (len(part), max(map(newest.get, part))), default=())
    if len(best) == 1:
        return [True] * len(row)
    return [item in best or not vectors[item].any() for item in row]


def test_the_largest_part_is_that_of_a_search():
    rng = np.random.default_rng(0)
    vectors = unit_rows(rng.standard_normal((50, 4)))
    vectors[[3, 17]] = 0
    rows = [rng.integers(0, 50, rng.integers(0, 30)).tolist() for _ in range(300)]
    history = Ragged.from_rows(rows)
    for threshold in (0.0, 0.5, 0.8, 0.97):
        kept = consistent(history, vectors, threshold)
        wanted = [keep for row in rows for keep in by_search(row, vectors, threshold)]
        assert kept.tolist() == wanted, threshold
    assert consistent(history, vectors, None).all()
    assert consistent(history, vectors, 1.1).all()  # without an edge nothing goes


def test_of_equal_parts_the_newest_is_kept():
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]]
    kept = consistent(Ragged.from_rows([[2, 0, 3, 1], [0, 2, 1, 3], [4, 0, 2, 0]]), vectors, 0.5)
    assert kept.tolist() == [False, True, False, True, False, True, False, True] + [True] * 4


def test_noise_is_told_from_what_belongs_together():
    """Two kinds of items, users of one kind, a quarter of the other kind put in."""
    rng = np.random.default_rng(0)
    vectors = unit_rows(np.repeat(np.eye(2), 50, axis=0) + 0.2 * rng.random((100, 2)))
    kind = rng.integers(0, 2, 200)
    noise = rng.random((200, 12)) < 0.25
    items = rng.integers(0, 50, noise.shape) + 50 * (kind[:, None] ^ noise)
    kept = consistent(Ragged.from_rows(items), vectors, 0.9).reshape(noise.shape)
    assert noise[~kept].mean() > 0.9 and kept[~noise].mean() > 0.95


def test_only_what_is_read_is_filtered(fitted, small_split):
    asked = Requests.of(small_split.test)
    kept = consistent(asked.history, fitted.vectors, fitted.threshold)
    assert 0 < kept.mean() < 1
    cleaned = fitted._cleaned(asked)
    assert np.array_equal(cleaned.times.values, asked.times.values[kept])
    assert torch.equal(fitted.score(asked), fitted.inner.score(cleaned))
    seen = replace(asked, history=cleaned.history, times=cleaned.times)
    items = fitted.recommend(asked, 10).items
    assert not np.array_equal(items, fitted.recommend(seen, 10).items)  # may answer what was cut
    whole = consrec(answering=False)
    whole.inner, whole.vectors, whole.threshold = fitted.inner, fitted.vectors, fitted.threshold
    assert torch.equal(whole.score(asked), fitted.inner.score(asked))


def test_training_reads_filtered_histories_and_nothing_else_changes(fitted, small_split):
    kept = consistent(small_split.train, fitted.vectors, 0.4)
    parts = fitted.filtered(small_split, kept)
    assert np.array_equal(parts.train.values, small_split.train.values[kept])
    assert np.array_equal(parts.train_times, small_split.train_times[kept])
    assert np.array_equal(parts.valid.targets.values, small_split.valid.targets.values)
    assert np.array_equal(parts.test.history.values, small_split.test.history.values)


def test_without_a_threshold_it_is_the_recommender_itself(small_split):
    settings = {key: value for key, value in OF.items() if key != "name"}
    asked = Requests.of(small_split.test)
    plain = SASRec(quiet=True, **settings).fit(small_split)
    assert torch.equal(consrec(thresholds=[None]).fit(small_split).score(asked), plain.score(asked))


def test_validation_picks_the_threshold(fitted):
    told = fitted.training["filter"]
    figures = {row["threshold"]: row["ndcg@10"] for row in told["tried"]}
    assert fitted.threshold == told["chosen"]["threshold"] == max(figures, key=figures.get)
    assert set(figures) == {0.2, 0.4} and told["kept"]["0.4"] < told["kept"]["0.2"] <= 1


def test_the_space_begins_as_the_texts_and_learns_from_histories(small_split):
    """Items that follow each other end nearer than others do, whatever their texts."""
    content = unit_rows(np.random.default_rng(0).standard_normal((40, 16)))
    content[5] = 0
    settings = SpaceSettings(hidden=32, length=3, batch=32, train={"epochs": 12, "lr": 5e-3})
    fresh = TextSpace(torch.from_numpy(content), settings).eval().vectors().numpy()
    np.testing.assert_allclose(fresh, content, atol=1e-6)
    vectors, told = learnt(content, small_split, settings, 0)
    assert not vectors[5].any() and told["best_epoch"] > 1
    train = small_split.train
    here = np.flatnonzero(np.diff(train.rows()) == 0)
    before, after = (
        near[train.values[here], train.values[here + 1]].mean() - near.mean()
        for near in (content @ content.T, vectors @ vectors.T)
    )
    assert after > before + 0.05


def test_a_target_is_not_told_by_itself(small_split):
    space = TextSpace(torch.randn(40, 8), SpaceSettings(hidden=8, length=4))
    task, seen = _Around(space, small_split), []
    space.loss = lambda around, targets: seen.append((around, targets)) or torch.zeros(())
    for batch in task.plan(0, 0):
        task.loss(batch)
    both = [around for around, _ in seen[1::2]]
    assert all(not (around == targets[:, None]).any() for around, targets in seen[1::2])
    assert max(around.shape[1] for around in both) == 8  # before and behind


def test_noise_takes_places_and_leaves_the_rest(small_split):
    noisy, drawn = with_noise(small_split, 0.25, 3)
    train, taken = small_split.train, np.flatnonzero(drawn)
    assert len(taken) == round(0.25 * len(train.values))
    assert np.array_equal(noisy.train.values[~drawn], train.values[~drawn])
    owners = train.rows()
    whole = {int(u): {*small_split.test.history[i], *small_split.test.targets[i]}
             for i, u in enumerate(small_split.test.users)}  # fmt: skip
    for place in taken:
        assert noisy.train.values[place] not in whole.get(int(owners[place]), set())
    for cases, before in ((noisy.valid, small_split.valid), (noisy.test, small_split.test)):
        assert np.array_equal(cases.targets.values, before.targets.values)
        for i, user in enumerate(cases.users):
            row, length = cases.history[i], len(train[int(user)])
            assert row[:length].tolist() == noisy.train[int(user)].tolist()
            assert row[length:].tolist() == before.history[i][length:].tolist()
    again, other = with_noise(small_split, 0.25, 3)[0], with_noise(small_split, 0.25, 4)[0]
    assert np.array_equal(again.train.values, noisy.train.values)
    assert not np.array_equal(other.train.values, noisy.train.values)
    with pytest.raises(OnomaError, match="share"):
        with_noise(small_split, 1.5)


def test_wrong_settings_are_told():
    with pytest.raises(OnomaError, match="once"):
        consrec(of={"name": "consrec"})
    with pytest.raises(ValueError, match="extra"):
        consrec(of={**OF, "nope": 1})
    with pytest.raises(OnomaError, match="no recommender"):
        consrec(of={})
    with pytest.raises(ValueError, match="thresholds"):
        consrec(thresholds=[])
