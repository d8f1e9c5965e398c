"""What every recommender must do; a test class inherits :class:`Conformance`.

class TestMarkov(Conformance):
    def make(self):
        return Markov()
"""

import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from onoma.dataset import Ragged, Split
from onoma.errors import OnomaError
from onoma.recommenders.base import Recommender, Requests


@dataclass(frozen=True)
class Fitted:
    """A recommender that was fitted once for all tests of a class.

    Attributes:
        model: the recommender.
        unchanged: whether the split was after the fit what it was before.
    """

    model: Recommender
    unchanged: bool


_fitted: dict[type, Fitted] = {}


def fitted(suite: "Conformance", split: Split) -> Fitted:
    """What the tests of a suite share, fitted when first asked for."""
    if type(suite) not in _fitted:
        before = digest(split)
        model = suite.make().fit(split)
        _fitted[type(suite)] = Fitted(model, digest(split) == before)
    return _fitted[type(suite)]


def digest(split: Split) -> str:
    """What a fit must leave as it is."""
    parts = (split.train, split.valid.history, split.test.targets)
    return hashlib.sha256(b"".join(p.values.tobytes() for p in parts)).hexdigest()


class Conformance:
    """Inherit, and give :meth:`make`.

    Attributes:
        tolerance: largest difference between scores that should be equal; batched matrix products
            may round differently.
        personal: whether the history changes the answer.
    """

    tolerance = 1e-4
    personal = True

    def make(self) -> Recommender:
        raise NotImplementedError

    @pytest.fixture
    def model(self, small_split):
        return fitted(self, small_split).model

    @pytest.fixture
    def requests(self, small_split):
        return Requests.of(small_split.test)

    @pytest.fixture
    def n_items(self, small_split):
        return small_split.dataset.n_items

    def close(self, left, right):
        """Equal scores up to rounding; -inf equals -inf."""
        left, right = torch.as_tensor(left), torch.as_tensor(right)
        torch.testing.assert_close(left, right, rtol=self.tolerance, atol=self.tolerance)

    def test_has_a_name_and_modes(self, model):
        assert model.name and model.modes and isinstance(model.reads, frozenset)

    def test_scores_have_shape_and_dtype(self, model, requests, n_items):
        scores = model.score(requests)
        assert scores.shape == (len(requests), n_items)
        assert scores.dtype == torch.float32 and not scores.isnan().any()

    def test_ranking_has_shape_and_dtypes(self, model, requests):
        for mode in model.modes:
            ranking = model.recommend(requests, 7, mode=mode)
            assert ranking.items.shape == ranking.scores.shape == (len(requests), 7)
            assert ranking.items.dtype == np.int32 and ranking.scores.dtype == np.float32

    def test_no_item_outside_the_catalogue(self, model, requests, n_items):
        for mode in model.modes:
            items = model.recommend(requests, 10, mode=mode).items
            assert items.min() >= -1 and items.max() < n_items

    def test_no_item_twice(self, model, requests):
        for mode in model.modes:
            for row in model.recommend(requests, 10, mode=mode).items:
                known = row[row >= 0]
                assert len(set(known.tolist())) == len(known)

    def test_scores_fall_and_padding_ends_rows(self, model, requests):
        for mode in model.modes:
            ranking = model.recommend(requests, 10, mode=mode)
            assert (ranking.scores[:, 1:] <= ranking.scores[:, :-1]).all()
            assert ((ranking.items < 0) == np.isneginf(ranking.scores)).all()

    def test_ties_by_code(self, model, requests):
        ranking = model.recommend(requests, 20)
        tied = (ranking.scores[:, 1:] == ranking.scores[:, :-1]) & (ranking.items[:, 1:] >= 0)
        assert (ranking.items[:, 1:] > ranking.items[:, :-1])[tied].all()

    def test_seen_items_are_masked(self, model, requests):
        for mode in model.modes:
            items = model.recommend(requests, 10, mode=mode).items
            for row, history in zip(items, (requests.history[i] for i in range(99)), strict=False):
                assert not np.isin(row, history).any()

    def test_seen_items_may_be_answered_when_asked(self, model, requests, n_items):
        ranking = model.recommend(replace(requests, mask_seen=False), n_items)
        history = requests.history
        hits = [np.isin(history[i], ranking.items[i]).all() for i in range(len(history))]
        assert any(hits)

    def test_k_larger_than_the_catalogue(self, model, requests, n_items):
        ranking = model.recommend(requests.slice(0, 3), n_items + 5)
        assert ranking.items.shape == (3, n_items + 5)
        assert (ranking.items[:, -5:] == -1).all()

    def test_k_below_one_is_refused(self, model, requests):
        with pytest.raises(ValueError, match="at least 1"):
            model.recommend(requests, 0)

    def test_unknown_mode_is_refused(self, model, requests):
        with pytest.raises(ValueError, match="mode"):
            model.recommend(requests, 5, mode="no such mode")

    def test_no_requests(self, model):
        assert model.recommend(Requests(Ragged.empty(0)), 5).items.shape == (0, 5)

    def test_strangers_with_a_history(self, model, requests):
        strangers = replace(requests, users=np.full(len(requests), -1, dtype=np.int32))
        nobody = replace(requests, users=None)
        self.close(model.score(strangers), model.score(nobody))

    def test_empty_history_is_answered(self, model, n_items):
        for mode in model.modes:
            ranking = model.recommend(Requests(Ragged.from_rows([[], [1], []])), 5, mode=mode)
            assert (ranking.items[:, 0] >= 0).all()
            assert (ranking.items[0] == ranking.items[2]).all()

    def test_history_of_one_item_without_interactions(self, model, small_split):
        cold = np.flatnonzero(small_split.train_counts == 0)
        ranking = model.recommend(Requests(Ragged.from_rows([cold[:1]])), 5)
        assert (ranking.items >= 0).any()

    def test_repeats_in_the_history(self, model):
        ranking = model.recommend(Requests(Ragged.from_rows([[3, 3, 3, 4, 3, 4]])), 5)
        assert (ranking.items >= 0).any() and not np.isin(ranking.items, [3, 4]).any()

    def test_very_long_history(self, model, n_items):
        long = np.random.default_rng(0).integers(0, n_items // 2, 500)
        assert (model.recommend(Requests(Ragged.from_rows([long])), 5).items[:, 0] >= 0).all()

    def test_exclusions_never_leak(self, model, requests, n_items):
        gone = np.arange(0, n_items, 2)
        exclude = Ragged.from_rows([gone] * len(requests))
        for mode in model.modes:
            items = model.recommend(replace(requests, exclude=exclude), 10, mode=mode).items
            assert not np.isin(items, gone).any() and (items >= 0).any()

    def test_candidates_are_respected(self, model, requests, n_items):
        rows = np.tile(np.array([0, 5, 5, 9, -1, n_items - 1], dtype=np.int32), (len(requests), 1))
        asked = replace(requests, candidates=rows, mask_seen=False)
        for mode in model.modes:
            items = model.recommend(asked, 10, mode=mode).items
            assert np.isin(items, [-1, 0, 5, 9, n_items - 1]).all()

    def test_candidates_keep_the_order_of_the_whole(self, model, requests, n_items):
        whole = model.recommend(requests, n_items)
        every = np.tile(np.arange(n_items, dtype=np.int32)[::-1], (len(requests), 1))
        self.close(
            model.recommend(replace(requests, candidates=every), n_items).scores, whole.scores
        )

    def test_recommend_agrees_with_score(self, model, requests):
        ranking = model.recommend(requests, 5, mode=model.modes[0])
        scores = model.score(requests)
        known = ranking.items >= 0
        picked = scores.gather(1, torch.from_numpy(np.maximum(ranking.items, 0).astype(np.int64)))
        self.close(picked.numpy()[known], ranking.scores[known])

    def test_exclusions_and_history_hold_among_candidates(self, model, requests):
        rows = np.tile(np.array([2, 5, 9, 11], dtype=np.int32), (len(requests), 1))
        asked = replace(
            requests, candidates=rows, exclude=Ragged.from_rows([[5, 9]] * len(requests))
        )
        for mode in model.modes:
            items = model.recommend(asked, 4, mode=mode).items
            assert np.isin(items, [-1, 2, 11]).all()
            for row in range(len(requests)):
                assert not np.isin(items[row], requests.history[row]).any()

    def test_candidates_of_padding_only_answer_nothing(self, model, requests):
        nothing = np.full((len(requests), 3), -1, dtype=np.int32)
        for mode in model.modes:
            ranking = model.recommend(replace(requests, candidates=nothing), 2, mode=mode)
            assert (ranking.items == -1).all() and np.isneginf(ranking.scores).all()

    def test_a_shorter_list_begins_a_longer_one(self, model, requests):
        short, long = (model.recommend(requests, k) for k in (3, 12))
        assert np.array_equal(short.items, long.items[:, :3])

    def test_equal_questions_have_equal_answers(self, model, requests):
        for mode in model.modes:
            first, second = (model.recommend(requests, 10, mode=mode) for _ in range(2))
            assert np.array_equal(first.items, second.items)
            assert np.array_equal(first.scores, second.scores)

    def test_more_requests_than_a_batch(self, model, requests, n_items):
        many = Ragged.from_rows([[row % n_items] for row in range(model.batch + 3)])
        items = model.recommend(Requests(many), 3).items
        assert len(items) == model.batch + 3
        self.close(
            model.score(Requests(many.slice(model.batch, model.batch + 3))),
            model.score(Requests(many))[model.batch :],
        )

    def test_batch_equals_single(self, model, requests):
        together = model.score(requests.slice(0, 8))
        for row in range(8):
            self.close(model.score(requests.slice(row, row + 1))[0], together[row])

    def test_order_of_requests_does_not_matter(self, model, requests):
        order = np.random.default_rng(0).permutation(len(requests))
        mixed = replace(
            requests,
            history=requests.history.take(order),
            users=requests.users[order],
            times=requests.times.take(order),
        )
        self.close(model.score(mixed), model.score(requests)[torch.from_numpy(order)])

    def test_history_matters(self, model, n_items):
        if not self.personal:
            pytest.skip("the same answer for everybody")
        scores = model.score(Requests(Ragged.from_rows([[1], [n_items // 2]])))
        assert not torch.equal(scores[0], scores[1])

    def test_scores_belong_to_the_caller(self, model, requests):
        before = model.score(requests)
        model.score(requests).fill_(7)
        self.close(model.score(requests), before)

    def test_inputs_are_not_changed(self, model, requests):
        before = copy.deepcopy(requests)
        for mode in model.modes:
            model.recommend(requests, 5, mode=mode)
        assert np.array_equal(requests.history.values, before.history.values)
        assert np.array_equal(requests.history.offsets, before.history.offsets)
        assert np.array_equal(requests.users, before.users)

    def test_fit_does_not_change_the_split(self, small_split):
        assert fitted(self, small_split).unchanged

    def test_a_fit_that_is_shown_no_test_case_agrees(self, model, requests, small_split):
        """So two fits agree, and neither reads them."""
        blind = replace(small_split, test=small_split.test.take(np.arange(0)))
        self.close(self.make().fit(blind).score(requests), model.score(requests))

    def test_save_and_load(self, model, requests, small_split, tmp_path):
        model.save(tmp_path)
        again = type(model).load(tmp_path, small_split.dataset)
        for mode in model.modes:
            left = model.recommend(requests, 10, mode=mode)
            right = again.recommend(requests, 10, mode=mode)
            self.close(right.scores, left.scores)
        again.save(tmp_path / "twice")
        assert (tmp_path / "twice" / "model.safetensors").is_file()
        assert not list(tmp_path.rglob("*.part"))
        assert not list(tmp_path.rglob("*.pkl")) and not list(tmp_path.rglob("*.pt"))

    def test_damaged_weights_are_told(self, model, small_split, tmp_path):
        model.save(tmp_path)
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(OnomaError):
            type(model).load(tmp_path, small_split.dataset)

    def test_missing_folder_is_told(self, model, small_split, tmp_path):
        with pytest.raises(OnomaError):
            type(model).load(tmp_path / "nothing", small_split.dataset)

    def test_answers_in_the_owners_ids(self, model, small_split):
        dataset = small_split.dataset
        history = [str(name) for name in dataset.item_ids[:3]]
        asked = Requests.histories(dataset, [[*history, "no such id"], ["no such id"]])
        names = model.recommend(asked, 5).ids(dataset)
        assert set(names[0]) <= set(dataset.item_ids) - set(history) and names[1]

    def test_unusual_ids_survive_saving(self, model, small_split, tmp_path):
        dataset = small_split.dataset
        odd = [name for name in map(str, dataset.item_ids) if not name.startswith("item-")]
        asked = Requests.histories(dataset, [[name] for name in odd])
        assert len(odd) >= 10 and (asked.history.lengths == 1).all()
        model.save(tmp_path / "naïve ☕")
        again = type(model).load(tmp_path / "naïve ☕", dataset)
        assert again.recommend(asked, 5).ids(dataset) == model.recommend(asked, 5).ids(dataset)

    def test_settings_that_are_unknown_are_refused(self, model):
        with pytest.raises((TypeError, ValueError)):
            type(model).create({"no such setting": 1})

    def test_threads_agree(self, model, requests):
        alone = model.recommend(requests, 10)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: model.recommend(requests, 10), range(8)))
        for answer in answers:
            self.close(answer.scores, alone.scores)
