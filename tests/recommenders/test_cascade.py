"""Recommenders in a row: what one hands on is all that the next may put in order."""

from dataclasses import replace

import numpy as np
import pytest
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.recipe import Recipe
from onoma.recommenders.base import Requests
from onoma.recommenders.cascade import Cascade

STAGES = [{"name": "popular"}, {"name": "markov"}]


class TestCascade(Conformance):
    def make(self):
        return Cascade(STAGES, keep=10)

    def test_settings_that_are_unknown_are_refused(self, model):
        with pytest.raises(ValueError, match="no such"):
            Cascade.create({"stages": [{"name": "popular"}, {"name": "markov", "no such": 1}]})

    def test_damaged_weights_are_told(self, model, small_split, tmp_path):
        model.save(tmp_path)
        path = tmp_path / "stage-1" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(OnomaError):
            Cascade.load(tmp_path, small_split.dataset)

    def test_save_and_load(self, model, requests, small_split, tmp_path):
        model.save(tmp_path)
        again = Cascade.load(tmp_path, small_split.dataset)
        left, right = (m.recommend(requests, 10) for m in (model, again))
        assert np.array_equal(left.items, right.items)
        assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("*.pkl"))

    def test_history_matters(self, model, n_items):
        """Ten popular items are put in order by the last item, all others stay where they are."""
        asked = Requests(Ragged.from_rows([[at] for at in range(n_items)]))
        assert len(np.unique(model.recommend(asked, 10).items, axis=0)) > 1

    def test_the_second_stage_orders_what_the_first_hands_on(self, model, requests):
        first, second = model.stages
        shown = first.recommend(requests, 10).items
        found = model.recommend(requests, 20).items
        for row in range(len(requests)):
            assert set(found[row, :10]) == set(shown[row])
        ordered = second.recommend(replace(requests, candidates=shown), 10).items
        known = ordered >= 0
        assert np.array_equal(found[:, :10][known], ordered[known])
        assert np.array_equal(found[:, 10:], first.recommend(requests, 20).items[:, 10:])


def test_stages_of_a_recipe_are_recipes():
    raw = {
        "name": "both",
        "recommender": {
            "name": "cascade",
            "stages": ["popular", {"markov": None}, {"sasrec": {"width": 32}}],
        },
    }
    stages = Recipe.check(raw, "here").recommender["stages"]
    assert [stage["name"] for stage in stages] == ["popular", "markov", "sasrec"]
    assert stages[2]["width"] == 32 and "train" in stages[2]
    with pytest.raises(OnomaError, match="no recipe is called 'nothing'"):
        Recipe.check(
            {**raw, "recommender": {"name": "cascade", "stages": ["nothing", "popular"]}}, "x"
        )


def test_a_ranker_that_looks_at_fewer_is_refused():
    with pytest.raises(ValueError, match="looks at 5 candidates"):
        Cascade([{"name": "popular"}, {"name": "likelihood-llm", "shortlist": 5}], keep=10)
