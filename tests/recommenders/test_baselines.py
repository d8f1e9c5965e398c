"""The baselines: the shared suite, then what is particular to each."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from conformance import Conformance

from onoma.dataset import Dataset, Ragged, split
from onoma.encoding.cooccurrence import interactions
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.baselines.chance import Random
from onoma.recommenders.baselines.ease import EASE
from onoma.recommenders.baselines.graph import GraphWalk
from onoma.recommenders.baselines.itemknn import ItemKNN
from onoma.recommenders.baselines.markov import Markov
from onoma.recommenders.baselines.popular import MostPopular
from onoma.recommenders.baselines.sparse import query, strongest
from onoma.recommenders.baselines.userknn import UserKNN
from onoma.recommenders.tuning import choose, grid, validation_ndcg


class TestMostPopular(Conformance):
    personal = False

    def make(self):
        return MostPopular()


class TestMarkov(Conformance):
    def make(self):
        return Markov()


class TestGraphWalk(Conformance):
    def make(self):
        return GraphWalk({"name": "tfidf", "dim": 8, "min_df": 1})


class TestItemKNN(Conformance):
    def make(self):
        return ItemKNN()


class TestUserKNN(Conformance):
    def make(self):
        return UserKNN()


class TestRandom(Conformance):
    def make(self):
        return Random(seed=1)


class TestEASE(Conformance):
    def make(self):
        return EASE()


def asked(*rows):
    return Requests(Ragged.from_rows(rows))


def test_popular_scores_are_training_counts(small_split):
    scores = MostPopular().fit(small_split).score(asked([0]))
    assert scores[0].tolist() == small_split.train_counts.tolist()


def test_markov_counts_steps(small_split):
    model, train = Markov().fit(small_split), small_split.train
    counts = np.zeros((40, 40))
    for user in range(len(train)):
        row = train[user]
        np.add.at(counts, (row[:-1], row[1:]), 1)
    scores = model.score(asked(*[[i] for i in range(40)])).numpy()
    np.testing.assert_array_equal(np.floor(scores), counts)


def test_itemknn_is_shrunk_cosine(small_split):
    model = ItemKNN(neighbours=40, shrink=3.0, decay=0.5).fit(small_split)
    seen = interactions(small_split.train, 40).toarray()
    shared, counts = seen.T @ seen, seen.sum(0)
    similar = shared / (np.sqrt(np.outer(counts, counts)) + 3)
    np.fill_diagonal(similar, 0)
    want = similar[7] + 0.5 * similar[2]
    np.testing.assert_allclose(model.score(asked([2, 7]))[0], want, atol=1e-5)


def test_userknn_sums_what_the_users_most_alike_took(small_split):
    model = UserKNN(neighbours=3, shrink=2.0).fit(small_split)
    seen = interactions(small_split.train, 40).toarray()
    history = [2, 7, 7]
    asked_for = np.bincount(history, minlength=40) > 0
    alike = seen @ asked_for / (np.sqrt(seen.sum(1) * asked_for.sum()) + 2)
    nearest = np.argsort(-alike, kind="stable")[:3]
    assert alike[nearest[2]] > 0
    want = (alike[nearest, None] * seen[nearest]).sum(0)
    np.testing.assert_allclose(model.score(asked(history))[0], want, atol=1e-5)


def test_random_orders_are_uniform_and_the_seeds_own(small_split):
    histories = asked(*[[row // 40, row % 40] for row in range(1600)])
    one, other = (Random(seed=seed).fit(small_split).score(histories) for seed in (1, 2))
    for scores in (one, other):
        assert abs(float(scores.mean()) - 0.5) < 0.005
        # Each item is first as often as any: chi square over 39 degrees of freedom.
        first = np.bincount(scores.argmax(dim=1).numpy(), minlength=40)
        assert ((first - 40) ** 2 / 40).sum() < 73
    assert not torch.equal(one, other)


def test_ease_is_the_closed_form(small_split):
    model = EASE(penalty=5.0, decay=1.0).fit(small_split)
    seen = interactions(small_split.train, 40).toarray().astype(np.float64)
    inverse = np.linalg.inv(seen.T @ seen + 5 * np.eye(40))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    np.testing.assert_allclose(model.score(asked([2, 7]))[0], weights[2] + weights[7], atol=1e-5)


def test_ease_blocks_and_pruning_keep_the_strongest(small_split, monkeypatch):
    whole = EASE(penalty=5.0, decay=1.0).fit(small_split)._weights.toarray()
    monkeypatch.setattr("onoma.recommenders.baselines.ease._BLOCK", 7)
    pruned = EASE(penalty=5.0, decay=1.0, keep=6).fit(small_split)._weights
    for row in range(40):
        kept = pruned[[row]].toarray()[0]
        assert np.count_nonzero(kept) <= 6
        smallest = np.abs(kept[kept != 0]).min(initial=np.inf)
        assert (np.abs(whole[row][kept == 0]) <= smallest + 1e-6).all()
        np.testing.assert_allclose(kept[kept != 0], whole[row][kept != 0], atol=1e-6)


def test_ease_refuses_a_catalogue_too_large(small_split):
    with pytest.raises(OnomaError, match="itemknn"):
        EASE(limit=10).fit(small_split)


def test_graph_ranks_reached_items_first_and_by_content():
    # a -> b, a -> c; d is like a but never reached.
    log = pl.DataFrame(
        {
            "user_id": ["1", "1", "1", "2", "2", "2", "3", "3", "3", "4", "4", "4"],
            "item_id": list("abxacxdyxbcx"),
            "timestamp": list(range(12)),
        }
    )
    words = {"a": "red soap bar", "b": "blue paint", "c": "red soap", "d": "red soap bar"}
    words |= {"x": "", "y": ""}
    items = pl.DataFrame({"item_id": list(words), "title": list(words.values())})
    parts = split(Dataset.construct(log, items), "leave-one-out")
    train = Ragged.from_rows([parts.dataset.item_codes(row) for row in ("ab", "ac", "dy", "bc")])
    parts = type(parts)(parts.dataset, train, np.zeros(8), parts.valid, parts.test, "made")
    model = GraphWalk({"name": "tfidf", "min_df": 1}, hops=1, last=1, walk=0.0).fit(parts)
    ranking = model.recommend(Requests.histories(parts.dataset, [["a"]]), 3)
    assert ranking.ids(parts.dataset)[0] == ["c", "b", "d"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ItemKNN(decay=2),
        lambda: ItemKNN(neighbours=0),
        lambda: EASE(penalty=0),
        lambda: GraphWalk(hops=0),
        lambda: GraphWalk(walk=2),
        lambda: EASE(keep=0),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()


def test_loading_another_model_or_catalogue_is_told(small_split, tmp_path):
    Markov().fit(small_split).save(tmp_path)
    with pytest.raises(OnomaError, match="markov"):
        MostPopular.load(tmp_path, small_split.dataset)
    other = Dataset.construct(pl.DataFrame({"user_id": ["u"], "item_id": ["i"]}))
    with pytest.raises(OnomaError, match="1"):
        Markov.load(tmp_path, other)


def test_query_weighs_by_distance_and_adds_repeats():
    matrix = query(Ragged.from_rows([[1, 0, 1], []]), 3, 0.5).toarray()
    np.testing.assert_allclose(matrix, [[0.5, 1.25, 0], [0, 0, 0]])
    assert query(Ragged.from_rows([[1, 0]]), 3, 0.0).toarray().tolist() == [[1, 0, 0]]


def test_strongest_keeps_large_negatives_and_low_columns():
    import scipy.sparse as sp

    matrix = sp.csr_array(np.array([[1.0, -3, 2, 2], [0, 0, 0, 5]]))
    assert strongest(matrix, 2).toarray().tolist() == [[0, -3, 2, 0], [0, 0, 0, 5]]


def test_validation_ndcg_counts_hits(small_split):
    class Oracle(MostPopular):
        def score(self, requests):
            out = torch.zeros(len(requests), 40)
            rows = np.arange(len(requests))
            out[rows, small_split.valid.targets.values[rows]] = 1
            return out

    cases = small_split.valid
    fresh = [not np.isin(cases.targets[i], cases.history[i]).any() for i in range(len(cases))]
    assert validation_ndcg(Oracle(), cases) == pytest.approx(np.mean(fresh))
    assert validation_ndcg(Oracle(), cases.take(np.arange(0))) == 0


def test_choose_takes_the_best_and_leaves_it_applied(small_split):
    model = ItemKNN(shrink=0.0, neighbours=5)
    applied = []

    def apply(option):
        applied.append(option["decay"])
        return ItemKNN(5, 0.0, option["decay"]).fit(small_split)

    choice = choose(grid(decay=[1.0, 0.5]), apply, small_split.valid)
    assert applied[-1] == choice.settings["decay"]
    assert choice.ndcg == max(t["ndcg@10"] for t in choice.tried)
    model.fit(small_split)
    assert {"chosen", "tried", "valid_ndcg@10"} <= set(model.training)


def test_markov_on_beauty_equals_the_known_figure(data_folder):
    folder = data_folder / "amazon-beauty-2014"
    if not folder.is_dir():
        pytest.skip("amazon-beauty-2014 is not there")
    dataset = Dataset.construct(
        pl.read_parquet(folder / "interactions.parquet"), pl.read_parquet(folder / "items.parquet")
    )
    parts = split(dataset)
    rows = np.arange(0, len(parts.test))
    items = Markov().fit(parts).recommend(Requests.of(parts.test.take(rows)), 10).items
    hit = items == parts.test.targets.values[:, None]
    assert hit.any(1).mean() == pytest.approx(0.0668, abs=5e-5)
    assert (hit / np.log2(np.arange(2, 12))).sum(1).mean() == pytest.approx(0.0439, abs=5e-5)


def test_strongest_keeps_the_largest_and_the_lower_column_among_equals() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(-3, 4, (40, 25)).astype(np.float32)
    for k in (1, 4, 25, 30):
        kept = strongest(sp.csr_array(table), k).toarray()
        for row, found in zip(table, kept, strict=True):
            some = np.flatnonzero(row)
            best = some[np.lexsort((some, -np.abs(row[some])))][:k]
            expected = np.zeros_like(row)
            expected[best] = row[best]
            assert np.array_equal(found, expected)
