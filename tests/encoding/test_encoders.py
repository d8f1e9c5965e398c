"""Encoders: unit rows, the same twice, zero where nothing is known, train only."""

import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from onoma import encoding
from onoma.dataset import Ragged
from onoma.encoding import als
from onoma.encoding.svd import truncated_svd
from onoma.encoding.text import item_texts
from onoma.encoding.tfidf import TfIdf
from onoma.errors import OnomaError

CONFIGS = [
    "tfidf",
    "collaborative",
    {"name": "als", "dim": 8, "steps": 3},
    [{"name": "tfidf", "dim": 8}, "collaborative"],
    {"parts": ["tfidf", "collaborative"], "weights": [2, 1], "dim": 6},
    {"name": "smoothed", "of": {"name": "tfidf", "dim": 8}},
    {"name": "shuffled", "of": {"name": "tfidf", "dim": 8}},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_rows_are_unit_or_zero_and_repeat(config, small_split):
    before = copy.deepcopy(small_split.train)
    vectors = encoding.build(config).encode(small_split)
    assert vectors.dtype == np.float32 and len(vectors) == 40 and np.isfinite(vectors).all()
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-5) and (lengths > 0).sum() > 20
    np.testing.assert_array_equal(vectors, encoding.build(config).encode(small_split))
    np.testing.assert_array_equal(small_split.train.values, before.values)
    np.testing.assert_array_equal(small_split.train.offsets, before.offsets)


def test_nothing_known_is_a_zero_row(small_split):
    texts = item_texts(small_split.dataset.items)
    silent = np.array([text == "" for text in texts])
    assert silent.any()
    vectors = encoding.build("tfidf").encode(small_split)
    assert not vectors[silent].any()
    cold = small_split.train_counts == 0
    assert cold.any()
    for name in ("collaborative", "als"):
        assert not encoding.build(name).encode(small_split)[cold].any()


@pytest.mark.parametrize("name", ["collaborative", "als"])
def test_log_encoders_read_training_alone(name, small_split):
    blind = replace(
        small_split,
        valid=small_split.valid.take(np.arange(0)),
        test=small_split.test.take(np.arange(0)),
    )
    encoder = encoding.build(name)
    np.testing.assert_array_equal(encoder.encode(small_split), encoder.encode(blind))
    assert encoder.fingerprint(small_split) == encoder.fingerprint(blind)


def test_alike_texts_are_near():
    texts = ["red matte lipstick", "blue lip balm", "matte lipstick red!", "", "shampoo"]
    vectors = TfIdf(min_df=1).fit(texts).encode_texts(texts)
    similar = vectors @ vectors.T
    assert similar[0, 2] > 0.5 and similar[0, 4] < 0.1 and not vectors[3].any()


def test_tfidf_weights_equal_the_formula():
    texts = ["a b a", "b c", "c"]
    encoder = TfIdf(dim=99, min_df=1, pairs=False).fit(texts)
    matrix = encoder._matrix(encoder._counts(texts), 3).toarray()
    idf = 1 + np.log(4 / (1 + np.array([1, 2, 2])))
    want = np.array([[1 + np.log(2), 1, 0], [0, 1, 1], [0, 0, 1]]) * idf
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(matrix, want, atol=1e-6)


def test_tfidf_pairs_do_not_cross_texts():
    encoder = TfIdf(min_df=1).fit(["red soap", "hand cream"])
    assert encoder._terms["term"].to_list() == [
        "cream",
        "hand",
        "hand cream",
        "red",
        "red soap",
        "soap",
    ]


def test_tfidf_encodes_new_texts_like_old_ones():
    texts = [f"thing {i % 7} of kind {i % 5}" for i in range(50)]
    encoder = TfIdf(dim=8).fit(texts)
    np.testing.assert_allclose(
        encoder.encode_texts(texts[3:4])[0], encoder.encode_texts(texts)[3], atol=1e-6
    )
    assert not encoder.encode_texts(["wholly unheard"]).any()
    with pytest.raises(RuntimeError):
        TfIdf().encode_texts(["x"])


@pytest.mark.parametrize(
    "texts", [[""], ["", ""], ["one"], ["日本語 テスト", "日本"], ["🙂", "🙂"]]
)
def test_tfidf_of_very_little(texts):
    vectors = TfIdf(min_df=1).fit(texts).encode_texts(texts)
    assert len(vectors) == len(texts) and np.isfinite(vectors).all()


def test_texts_skip_what_says_nothing():
    items = pl.DataFrame(
        {
            "item_id": ["1", "2", "3"],
            "title": ["  Soap &amp; <b>Water</b> ", None, "nan"],
            "brand": ["Unknown", "Dove.", None],
            "categories": [["Bath", None, "Soap"], [], None],
            "price": [1.0, 2.0, 3.0],
        }
    )
    assert item_texts(items) == ["Soap & Water. Bath, Soap", "Dove", ""]
    assert item_texts(items, ["price", "no such column"]) == ["1.0", "2.0", "3.0"]
    assert item_texts(items, []) == ["", "", ""]


def test_svd_equals_the_exact_one():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((60, 40)) @ np.diag(0.7 ** np.arange(40))
    u, s, vt = truncated_svd(matrix, 6)
    np.testing.assert_allclose(s, np.linalg.svd(matrix)[1][:6], rtol=1e-4)
    exact_u, exact_s, exact_vt = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(
        (u * s) @ vt, (exact_u[:, :6] * exact_s[:6]) @ exact_vt[:6], atol=1e-3
    )
    assert (vt[np.arange(6), np.abs(vt).argmax(1)] > 0).all()


def test_als_solves_its_equations(monkeypatch):
    rng = np.random.default_rng(0)
    dense = (rng.random((9, 6)) < 0.4).astype(np.float32)
    dense[4] = 0
    fixed = rng.standard_normal((6, 4)).astype(np.float32)
    seen, start = sp.csr_array(dense), rng.standard_normal((9, 4)).astype(np.float32)
    monkeypatch.setattr(als, "_CHUNK", 3)
    whole = als.ALS(dim=4, inner=12)._solve(seen, fixed, start)
    for row in range(9):
        weights = 1 + 10 * dense[row]
        left = (fixed.T * weights) @ fixed + np.eye(4)
        want = np.linalg.solve(left, fixed.T @ (weights * dense[row]))
        np.testing.assert_allclose(whole[row], want, atol=1e-3)
    assert not whole[4].any() and seen.data.min() == 1


def test_joined_keeps_what_one_part_knows(small_split):
    joined = encoding.build(["tfidf", "collaborative"])
    text, log = (part.encode(small_split) for part in joined.parts)
    vectors = joined.join([text, log], small_split)
    assert (vectors.any(1) == (text.any(1) | log.any(1))).all()
    both = text.any(1) & log.any(1)
    np.testing.assert_allclose(
        (vectors @ vectors.T)[both][:, both],
        ((text @ text.T + log @ log.T) / 2)[both][:, both],
        atol=1e-5,
    )


def test_cache_keys_follow_the_data_each_encoder_reads(small_split, tmp_path, monkeypatch):
    monkeypatch.setenv("ONOMA_CACHE", str(tmp_path))
    first = encoding.cached(encoding.build(CONFIGS[3]), small_split)
    kept = sorted(tmp_path.glob("*.safetensors"))
    assert [path.name.split("-")[0] for path in kept] == ["collaborative", "tfidf"]
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = encoding.cached(encoding.build(CONFIGS[3]), small_split)
    np.testing.assert_array_equal(first, again)
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    encoding.cached(encoding.build("tfidf", dim=5), small_split)
    other = replace(small_split, train=Ragged.from_rows([[0, 1]] * 60))
    encoding.cached(encoding.build("tfidf", dim=8), other)
    encoding.cached(encoding.build("collaborative"), other)
    names = [path.name.split("-")[0] for path in sorted(tmp_path.glob("*.safetensors"))]
    assert names == ["collaborative"] * 2 + ["tfidf"] * 2


def test_a_damaged_cache_file_is_replaced(small_split, tmp_path, monkeypatch):
    monkeypatch.setenv("ONOMA_CACHE", str(tmp_path))
    first = encoding.cached(encoding.build("tfidf"), small_split)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    np.testing.assert_array_equal(encoding.cached(encoding.build("tfidf"), small_split), first)
    assert path.stat().st_size > 50 and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_sizes_smaller_than_the_dimensions(config, tiny_split):
    assert np.isfinite(encoding.build(config).encode(tiny_split)).all()


@pytest.mark.parametrize(
    "config",
    [
        "no such",
        {"name": "tfidf", "colour": 3},
        {"name": "tfidf", "dim": 0},
        7,
        [],
        {"dim": 3},
        {"parts": ["tfidf"], "weights": [1, 2]},
        {"name": "endpoint", "model": "m", "url": "ftp://x"},
    ],
    ids=str,
)
def test_bad_descriptions_are_told(config):
    with pytest.raises(OnomaError):
        encoding.build(config)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(small_split, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ONOMA_CACHE", str(tmp_path / "file" / "below"))
    assert len(encoding.cached(encoding.build("tfidf"), small_split)) == small_split.dataset.n_items


def test_smoothing_draws_items_of_one_history_together_and_leaves_strangers_alone(small_split):
    rows = [[0, 1], [0, 1], [2, 3], [2, 3]]
    apart = replace(small_split, train=Ragged.from_rows(rows))
    plain = encoding.build("tfidf").encode(apart)
    mixed = encoding.build("smoothed", of="tfidf", hops=1, own=0.5).encode(apart)
    assert mixed[0] @ mixed[1] > plain[0] @ plain[1] + 0.05
    np.testing.assert_allclose(mixed[4:], plain[4:], atol=1e-6)
    # One hop by hand: both users of item 0 hold items 0 and 1, all degrees are 2.
    want = plain[0] + (plain[0] + plain[1]) / np.linalg.norm(plain[0] + plain[1])
    np.testing.assert_allclose(mixed[0], want / np.linalg.norm(want), atol=1e-5)


def test_the_controls_vectors_are_the_same_ones_elsewhere(small_split):
    plain = encoding.cached(encoding.build("tfidf"), small_split)
    dealt = [
        encoding.cached(encoding.build({"name": "shuffled", "of": "tfidf", "seed": s}), small_split)
        for s in (0, 0, 1)
    ]
    assert np.array_equal(dealt[0], dealt[1]) and not np.array_equal(dealt[0], dealt[2])
    known = plain.any(axis=1)
    assert np.array_equal(dealt[0].any(axis=1), known)
    assert sorted(map(tuple, dealt[0])) == sorted(map(tuple, plain))
    same = (dealt[0] == plain).all(axis=1) & known
    twins = {tuple(row) for row in plain if (plain == row).all(axis=1).sum() > 1}
    assert all(tuple(row) in twins for row in plain[same])
