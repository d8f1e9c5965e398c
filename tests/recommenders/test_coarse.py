"""Eight bits leave the right items to be looked at."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onoma.dataset import Dataset, Ragged, split
from onoma.recommenders import Requests, coarse
from onoma.recommenders.base import Recommender
from onoma.recommenders.bridged.pad import PAD, PadModule
from onoma.recommenders.coarse import Coarse
from onoma.recommenders.generative.flagship import Flagship
from onoma.recommenders.generative.lite import LiteLLM4Rec, LiteModule
from onoma.recommenders.sequential.sasrec import SASRec
from onoma.recommenders.transformer import TransformerRecommender

pytestmark = pytest.mark.skipif(
    torch.backends.quantized.engine not in ("fbgemm", "x86", "onednn"),
    reason="torch has no eight-bit engine here; the exact product answers",
)


@given(seed=st.integers(0, 999), spread=st.sampled_from([0.0, 1.0, 3.0]))
@settings(max_examples=20, deadline=None)
def test_no_product_is_farther_off_than_said(seed: int, spread: float) -> None:
    """Lengths of queries and items differ by orders of magnitude; some are zero."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(5000, 64)) * np.exp(spread * rng.normal(size=(5000, 1)))
    queries = rng.normal(size=(7, 64)) * np.exp(spread * rng.normal(size=(7, 1)))
    items[5], queries[3] = 0, 0
    items, queries = (torch.from_numpy(x.astype(np.float32)) for x in (items, queries))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coarse, "_WORTH", 0)
        made = Coarse.of(items)
    assert made is not None
    near, error = made.products(queries)
    assert near.shape == (7, 5000)
    assert ((near - queries @ items.T).abs().amax(dim=1) <= error).all()
    assert (error <= 0.25 * queries.norm(dim=1) * items.norm(dim=1).max()).all()


def test_small_tables_are_not_copied() -> None:
    assert Coarse.of(torch.ones(1000, 64)) is None


@pytest.fixture(scope="module")
def fitted() -> tuple[Flagship, int]:
    """A flagship, trained for a moment, and the size of its catalogue."""
    rng = np.random.default_rng(0)
    steps = (
        rng.integers(900, size=(300, 1)) + np.arange(8) * rng.integers(1, 4, size=(300, 1))
    ) % 900
    users = np.repeat([f"u{n}" for n in range(300)], 8)
    log = pl.DataFrame({"user_id": users, "item_id": [f"i{c}" for c in steps.ravel()],
                        "timestamp": np.tile(np.arange(8), 300)})  # fmt: skip
    parts = split(Dataset.construct(log, name="steps"))
    vectors = {"name": "collaborative", "dim": 8}
    model = Flagship(
        width=16, heads=2, depth_width=16, quiet=True, encoder=vectors,
        index={"method": "rqkmeans", "levels": 2, "size": 8, "encoder": vectors},
        train={"epochs": 8, "batch_tokens": 512, "lr": 5e-3},
    )  # fmt: skip
    return model.fit(parts), parts.dataset.n_items


@pytest.mark.parametrize("repeats", [False, True])
def test_the_same_items_are_answered(
    fitted: tuple[Flagship, int], monkeypatch: pytest.MonkeyPatch, repeats: bool
) -> None:
    """Lists, scores and gaps of a whole look; a row that may name three items names those."""
    monkeypatch.setattr(coarse, "_WORTH", 0)
    model, count = fitted
    model.forget()
    assert model.weight > 0
    rng = np.random.default_rng(0)
    rows = [rng.choice(count, size, replace=False) for size in (0, 1, 3, 12, 60)]
    few = np.setdiff1d(np.arange(count), [3, 8, 21])
    requests = Requests(
        Ragged.from_rows(rows),
        np.full(len(rows), -1, dtype=np.int32),
        exclude=Ragged.from_rows([few, *(rng.choice(count, 9) for _ in rows[1:])]),
        mask_seen=not repeats,
    )
    for k in (1, 10, 50):
        model.item_table()
        assert model._coarse is not None
        looked = model._narrowed(model._coarse, requests, k)
        found, whole = model.recommend(requests, k), Recommender._recommend(model, requests, k, "")
        assert looked is not None
        assert (found.items == looked.items).all() and (found.items == whole.items).all()
        assert np.allclose(found.scores, whole.scores, atol=1e-5)
        assert set(found.items[0]) <= {3, 8, 21, -1}


def _untrained(name: str, n: int) -> TransformerRecommender:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    texts = rng.normal(size=(n, 24)).astype(np.float32)
    model: TransformerRecommender
    if name == "sasrec":
        model = SASRec(width=32, quiet=True)
        model.module = SASRec.module_type(n, model.settings)
        torch.nn.init.normal_(model.module.ids)
    elif name == "pad":
        model = PAD(width=32, quiet=True)
        counts = rng.integers(1, 1000, n)
        model.module = PadModule(n, model.settings, torch.from_numpy(texts), counts)
        model.module.begin("experts")
        torch.nn.init.normal_(model.module.ids)
    else:
        model = LiteLLM4Rec(width=32, quiet=True, head=name)
        model.module = LiteModule(texts, model.settings)
        for parameter in (getattr(model.module, x, None) for x in ("head", "offset")):
            if parameter is not None:
                torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("name", ["sasrec", "free", "tied", "pad"])
def test_heads_that_know_an_item_by_its_place_answer_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pairs are looked at than there are items, and one request's few."""
    monkeypatch.setattr(coarse, "_WORTH", 0)
    n = 3000
    model = _untrained(name, n)
    rng = np.random.default_rng(1)
    asked = Requests(Ragged.from_rows([rng.integers(0, n, 8) for _ in range(120)]))
    for requests, k in ((asked, 10), (asked.slice(0, 1), 5)):
        model.item_table()
        assert model._coarse is not None
        looked = model._narrowed(model._coarse, requests, k)
        whole = Recommender._recommend(model, requests, k, "rank")
        assert looked is not None and (looked.items == whole.items).all()
        assert np.allclose(looked.scores, whole.scores, rtol=1e-5, atol=1e-4)
