"""``onoma study denoising`` on the small data, and its parts where the answer is known."""

import numpy as np
import pytest

from onoma.errors import OnomaError
from onoma.study.denoising import CHANCE, CLEAN, FILTERED, NOISY, _by_chance, denoising, detected


def test_four_arms_and_what_was_found(small_split, tmp_path):
    data = small_split.dataset.save(tmp_path / "small")
    words = ["recommender.of={name: itemknn}", "recommender.encoder=tfidf",
             "recommender.thresholds=[.2,.4]", "recommender.space.train.epochs=2",
             "recommender.space.hidden=16"]  # fmt: skip
    result = denoising(str(data), tmp_path / "out", overrides=words, seeds=[0, 1], quiet=True)
    assert [row["arm"] for row in result["rows"]] == [CLEAN, NOISY, CHANCE, FILTERED]
    assert len(result["found"]) == 8 and (tmp_path / "out" / "denoising.json").exists()
    assert sum(row["chosen"] for row in result["found"]) == 2
    assert {row["space"] for row in result["found"] if row["chosen"]} == {"learnt"}
    assert [row["system"] for row in result["acceptance"]] == ["S090", "S090"]
    assert result["rows"][1]["mean"] < result["rows"][0]["mean"]  # noise costs something
    with pytest.raises(OnomaError, match="no consrec"):
        denoising(str(data), tmp_path / "out", recipe="popular", quiet=True)


def test_what_a_filter_removed_is_counted():
    noise = np.array([True, True, False, False, False, False, False, False])
    told = detected(np.array([False, True, False, True, True, True, True, True]), noise)
    assert told["removed"] == 0.25 and told["noise"] == 0.5 and told["lift"] == 2
    assert told["noise_removed"] == 0.5 and told["true_removed"] == pytest.approx(1 / 6)
    assert np.isnan(detected(np.ones(8, bool), noise)["lift"])


def test_by_chance_every_user_loses_as_many(small_split):
    kept = np.random.default_rng(0).random(len(small_split.train.values)) < 0.6
    cut = _by_chance(small_split, kept, 0)
    assert np.array_equal(cut.train.lengths, small_split.train.where(kept).lengths)
    assert len(cut.train_times) == len(cut.train.values) == kept.sum()
    for before, after in zip(small_split.train, cut.train, strict=True):
        rest = iter(before.tolist())
        assert all(item in rest for item in after.tolist())  # in the old order
