"""LLM-KT: the shared suite, then what is its own."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance
from torch import nn

from onoma.dataset import Dataset, split
from onoma.errors import OnomaError
from onoma.language.base import Decoding
from onoma.language.opening import open_model
from onoma.language.profiles import Facts, ModelWriter, TemplateWriter, facts
from onoma.recommenders.bridged.llmkt import LLMKT, _Listening, reduced
from onoma.recommenders.collaborative.lightgcn import LightGCN

QUICK = {"epochs": 12, "lr": 2e-2, "valid_every": 3, "patience": 9}
PROFILES = {"encoder": {"name": "tfidf", "dim": 16}}
GRAPH = {"name": "lightgcn", "width": 16, "batch": 64, "negatives": 32}


def llmkt(**settings):
    settings = {"of": GRAPH, "width": 8, "profiles": PROFILES, "train": QUICK, **settings}
    return LLMKT(quiet=True, **settings)


class TestLLMKT(Conformance):
    def make(self):
        return llmkt()


class TestAutoencoder(Conformance):
    def make(self):
        return llmkt(of={"name": "multvae", "hidden": 16, "latent": 8, "batch": 16}, layer="encode")


class TestSequence(Conformance):
    def make(self):
        return llmkt(of={"name": "sasrec", "width": 16, "heads": 2}, layer="encoder", listen=1.0)


def test_the_lesson_of_a_sequence_reads_no_padding():
    parts = rated_split()
    model = llmkt(of={"name": "sasrec", "width": 16, "heads": 2}, layer="encoder").fit(parts)
    task = model.inner._task(parts)
    view = _Listening(model, task, torch.zeros(parts.dataset.n_users, 2), nn.Identity())
    rows = task.plan(0, 0)[0]
    lengths = task.lengths(rows)
    hidden = torch.randn(len(rows), int(lengths.max()) + 3, 4)
    expected = [hidden[row, :n].mean(0) for row, n in enumerate(lengths)]
    assert torch.allclose(view._pooled(hidden, rows), torch.stack(expected), atol=1e-6)
    items, _ = task.batches.tensors(rows, model.module.n_items)
    assert ((items != model.module.n_items).sum(1).numpy() == lengths).all()


def rated_split():
    """Six people, nine films, stars."""
    rows = [
        ("ann", "a", 5, 1), ("ann", "b", 1, 2), ("ann", "c", 4, 3), ("ann", "d", 5, 4),
        ("ann", "e", 1, 5), ("ann", "f", 5, 6),
        *[(f"u{n}", item, 3, t) for n in range(5) for t, item in enumerate("abcdefghi"[n:])],
    ]  # fmt: skip
    users, items, stars, times = zip(*rows, strict=True)
    log = pl.DataFrame({"user_id": users, "item_id": items, "rating": stars, "timestamp": times})
    films = pl.DataFrame(
        {
            "item_id": list("abcdefghi"),
            "title": [f"Film {n}" for n in "ABCDEFGHI"],
            "categories": [["War"] if n in "bei" else ["Love"] for n in "abcdefghi"],
        }
    )
    people = pl.DataFrame({"user_id": ["ann"], "age": [31], "zip_code": ["00000"]})
    return split(Dataset.construct(log, films, people, name="films"))


def test_a_profile_says_what_training_knows_and_nothing_else():
    data = rated_split()
    told = facts(data, liked=2)
    ann = told[data.dataset.user_code("ann")]  # e and f are her validation and test
    assert ann.liked == ("Film D", "Film A") and ann.liked_stars == (5.0, 5.0)
    assert ann.disliked == ("Film B",) and ann.kinds == ("Love",) and ann.about == "age 31"
    text = TemplateWriter().write([ann])[0]
    assert text == "Likes Love. Favourites: Film D; Film A. Dislikes: Film B. age 31."


def test_a_language_model_writes_profiles_of_those_who_are_known():
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tiny import tiny_folder

    model = open_model({"model": str(tiny_folder()), "cache": False})
    known = Facts("age 31", ("Heat", "Fargo"), (5.0, 4.0), ("Twister",), (1.0,), ("Crime",))
    writer = ModelWriter(model, Decoding(max_tokens=8))
    texts = writer.write([known, Facts(), Facts(liked=("Heat",))])
    assert texts[1] == "" and model.meter.total.calls == 2
    plain = TemplateWriter().write([known, Facts(), Facts(liked=("Heat",))])
    assert writer.failed == sum(a == b for a, b in zip(texts, plain, strict=True) if b)
    assert writer.failed < 2
    again = ModelWriter(model, Decoding(max_tokens=8)).write([known])
    assert again == texts[:1]


def test_dealt_out_texts_are_the_same_texts_under_other_items():
    data = rated_split()
    told, dealt = facts(data), facts(data, shuffled=0)
    ann = data.dataset.user_code("ann")
    assert len(dealt[ann].liked) == len(told[ann].liked) and dealt[ann].liked != told[ann].liked
    assert facts(data, shuffled=0) == dealt


def test_a_layer_that_listens_carries_the_profile(small_split):
    """The layer's mean cosine to the profiles, with the lesson and without."""

    def cosine(model):
        goal = model.targets(small_split)
        users, _, _ = model.module()
        known = goal.abs().sum(1) > 0
        close = torch.nn.functional.cosine_similarity(users[known, :8], goal[known], dim=1)
        return float(close.mean().detach())

    lesson = {"distance": "cosine", "listen": 1.0}
    taught, deaf = (llmkt(alpha=alpha, **lesson) for alpha in (0.9, 0.0))
    for model in (taught, deaf):
        model.fit(small_split)
        model.module.graph = model.inner._build(small_split).graph
    assert cosine(taught) > 0.5 > cosine(deaf) + 0.2


def test_with_nothing_to_listen_to_it_is_the_model_alone(small_split):
    alone = llmkt(listen=0.0).fit(small_split)
    plain = LightGCN(width=16, batch=64, negatives=32, train=QUICK, quiet=True).fit(small_split)
    assert torch.equal(plain.module.out, alone.module.out)
    taught = llmkt().fit(small_split)
    assert not torch.equal(plain.module.out, taught.module.out)
    assert sum(p.numel() for p in taught.module.parameters()) == sum(
        p.numel() for p in plain.module.parameters()
    )


def test_reduction_keeps_the_spread_and_leaves_the_unknown_alone():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 6)).astype(np.float32)
    vectors[4] = 0
    out = reduced(vectors, 4)
    assert out.shape == (30, 4) and not out[4].any()
    known = np.delete(out, 4, axis=0)
    assert np.allclose(known.mean(0), 0, atol=1e-5) and np.mean(known**2) == pytest.approx(1)
    assert np.allclose(np.cov(known.T) - np.diag(known.var(0, ddof=1)), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layer": "nope"}, "no part called 'nope'"),
        ({"width": 99, "profiles": {"encoder": "tfidf"}}, "smaller recommender.width"),
        ({"of": {"name": "ease"}}, "no module"),
        ({"profiles": {"encoder": "als"}}, "reads no texts"),
    ],
)
def test_what_cannot_listen_is_told(settings, said, small_split):
    with pytest.raises(OnomaError, match=said):
        llmkt(**settings).fit(small_split)


@pytest.mark.parametrize(("name", "what"), [("pad", "fit"), ("hllm", "fit"), ("tiger", "save")])
def test_models_that_fit_or_save_in_their_own_way_are_refused(name, what):
    """Steps of training and files beside the weights are theirs alone."""
    with pytest.raises(OnomaError, match=f"{name} has a {what} of its own"):
        llmkt(of={"name": name})
