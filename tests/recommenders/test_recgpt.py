"""RecGPT: the shared suite, then logs, interests, tags, towers and explanations."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance
from prompted import tiny_model

from onoma.dataset import Dataset, Ragged, split
from onoma.evaluation.blend import blend_figures, chosen
from onoma.evaluation.report_systems import blend_section, clicks_section, written_section
from onoma.language.logs import Event, brief, compressed, events, plain_log, saving, told_items
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval import spoken
from onoma.recommenders.retrieval.asked import ModelMiner
from onoma.recommenders.retrieval.interests import Facets, RuleMiner
from onoma.recommenders.retrieval.recgpt import RecGPT
from onoma.recommenders.retrieval.towers import features

TFIDF = {"name": "tfidf", "dim": 16, "min_df": 1}
QUICK = {"epochs": 6, "lr": 1e-2, "valid_every": 3, "patience": 9}
DAY = 86_400


def recgpt(**settings):
    given = {"encoder": TFIDF, "width": 8, "hidden": 16, "batch": 64, "train": QUICK, **settings}
    return RecGPT(quiet=True, **given)


class TestRecGPT(Conformance):
    def make(self):
        return recgpt()


class TestBestTag(Conformance):
    def make(self):
        return recgpt(pool="max", beta=0.5)


@pytest.fixture(scope="module")
def fitted(small_split):
    return recgpt().fit(small_split)


@pytest.fixture(scope="module")
def shop():
    """Soaps, brushes and towels: who has soap has towels; nobody has soap and brushes."""
    kinds = ["Soap", "Brush", "Towel"]
    rows = []
    for user in range(30):
        side = user % 2  # 0: soap and towels, 1: brushes
        pool = [n for n in range(30) if (n % 3 == 1) == bool(side)]
        rng = np.random.default_rng(user)
        rows += [(f"u{user}", f"i{n}", at) for at, n in enumerate(rng.permutation(pool)[:6])]
    users, items, times = zip(*rows, strict=True)
    log = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    colours = ["red", "blue"]
    catalogue = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(30)],
            "title": [f"{colours[n // 3 % 2]} {kinds[n % 3].lower()} {n}" for n in range(30)],
            "categories": [["Home", kinds[n % 3]] for n in range(30)],
            "price": [float(n) if n else None for n in range(30)],
        }
    )
    return split(Dataset.construct(log, catalogue, name="shop"))


def test_names_are_short_and_nobody_elses():
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "title": [
                "One two three four five", "One two three four six", "A; b | c", None
            ],
            "brand": ["Acme", "Acme", None, "Solo"],
            "categories": [["X", "Y"], ["X", "Y"], None, ["Z"]],
        }
    )  # fmt: skip
    names = brief(items)
    assert names[0] == "One two three four five (Y, Acme)" and len(set(names)) == 4
    assert names[2] == "A, b , c" and names[3] == "d (Z, Solo)"
    assert brief(items[:1])[0] == "One two three four (Y, Acme)"


def test_a_log_shares_its_times():
    now = 20_000 * DAY
    did = [
        Event(0, "took", now - 800 * DAY), Event(1, "took", now - 800 * DAY),
        Event(2, "took", now), Event(0, "liked", now),
    ]  # fmt: skip
    log = compressed(did, ["A", "B", "C"])
    lines = log.splitlines()
    assert len(lines) == 3 and lines[0].endswith(" | A") and lines[0].count("(") == 2
    assert lines[1] == "10-04(took) | C" and lines[2] == "2022(took) | B"
    assert sorted(told_items(log)) == ["A", "B", "C"]
    alone = [replace(one, time=now) for one in did[:3]]
    assert compressed(alone, ["A", "B", "C"]) == "10-04(took) | C; B; A"
    assert compressed(did, ["A", "B", "C"], limit=22) == "\n".join(lines[:2])
    assert compressed([], []) == ""


def test_compression_keeps_the_items_at_half_the_length(shop):
    texts = [f"{title}, of the shop for soap, brushes and towels, sold by the piece"
             for title in shop.dataset.titles(np.arange(30))]  # fmt: skip
    found = saving(shop, list(range(30)), texts)
    assert found["items"] == 1.0 and found["tokens"] < 0.5 and found["users"] == 30
    user = shop.dataset.user_code("u1")
    assert [one.item for one in events(shop, user)] == shop.train[user].tolist()
    assert len(plain_log(events(shop, user), texts).splitlines()) == len(shop.train[user])


def test_facets_are_the_kinds_that_tell_items_apart(shop):
    facets = Facets.of(shop, common=0.9)
    assert facets.kinds == ("Brush", "Soap", "Towel")  # Home is everything's
    soap, towel, brush = (facets.kinds.index(name) for name in ("Soap", "Towel", "Brush"))
    assert facets.near[soap, towel] > 0 and facets.near[soap, brush] == 0
    blind = replace(shop, test=shop.test.take(np.arange(0)))
    assert np.array_equal(Facets.of(blind, common=0.9).near, facets.near)


def test_tags_are_of_the_history_and_of_what_lies_near(shop):
    facets = Facets.of(shop, common=0.9)
    miner = RuleMiner(facets, explore=0.9)
    miner.broad = 30  # a small shop
    soaps = np.flatnonzero(facets.of_kind[:, [facets.kinds.index("Soap")]].toarray())[:3]
    tags = miner.mine(Ragged.from_rows([soaps, []]))
    assert facets.kinds[tags.interests[0, 0]] == "Soap" and (tags.kinds[1] == -1).all()
    told = tags.told(0, facets)
    cores = {one["tag"].split()[-1] for one in told}
    assert cores == {"Soap", "Towel"} and {one["interest"] for one in told} == {"Soap"}
    assert tags.weights[0].sum() == pytest.approx(1) and not tags.weights[1].any()
    far = tags.kinds[0] != tags.sources[0]
    assert tags.weights[0][far].sum() == pytest.approx(miner.explore)
    paired = tags.words[0] >= 0
    assert paired.any() and (facets.both[tags.kinds[0][paired], tags.words[0][paired]] > 0).all()
    counts = miner.answers
    turned = sum(count for name, count in counts.items() if name.startswith("rejected"))
    assert counts["asked"] == counts["tags"] + turned


def test_a_language_model_chooses_among_what_there_is(shop):
    from onoma.language.opening import open_model

    facets = Facets.of(shop, common=0.9)
    rule = RuleMiner(facets)
    rule.broad = 30
    miner = ModelMiner(open_model(tiny_model()), rule, shop.dataset, interests=1, tags=2)
    history = Ragged.from_rows([shop.train[0], []])
    tags = miner.mine(history)
    assert miner.answers["asked"] == 1 and (tags.kinds[1] == -1).all()
    bad = sum(count for name, count in miner.answers.items() if name.startswith("rejected: "))
    assert miner.answers["tags"] or bad
    known = tags.kinds[0] >= 0
    assert known.any() and tags.weights[0].sum() == pytest.approx(1)
    paired = tags.words[0] >= 0
    assert (facets.both[tags.kinds[0][paired], tags.words[0][paired]] > 0).all()
    again = ModelMiner(open_model(tiny_model()), rule, shop.dataset, interests=1, tags=2)
    assert np.array_equal(again.mine(history).kinds, tags.kinds)


def test_prices_fall_into_tenths_and_none_is_none(shop):
    table = features(shop.dataset.items)
    prices = shop.dataset.items["price"].to_numpy()
    known = ~np.isnan(prices.astype(float))
    assert (table[~known, 2] == 0).all() and set(table[known, 2]) == set(range(1, 11))
    order = np.argsort(prices[known])
    assert (np.diff(table[known, 2][order]) >= 0).all()


def test_beta_mixes_the_two_and_swapped_tags_are_others_tags(fitted, small_split):
    requests = Requests.of(small_split.test.take(np.arange(6)))
    users, tags = fitted.parts_of(requests)
    for beta in (0.0, 0.3, 1.0):
        torch.testing.assert_close(fitted.mixed(requests, beta), beta * users + (1 - beta) * tags)
    other = requests.history.take(np.array([1, 2, 3, 4, 5, 0]))
    _, swapped = fitted.parts_of(requests, other)
    torch.testing.assert_close(swapped, tags[[1, 2, 3, 4, 5, 0]])


def test_tags_find_their_items(shop):
    """After training a tag is nearer to items of its kind than to others."""
    model = recgpt(train={**QUICK, "epochs": 30}).fit(shop)
    facets = model.facets
    kinds = torch.arange(len(facets.kinds))
    with torch.no_grad():
        near = model.module.tags(kinds, torch.full_like(kinds, -1)) @ model.items().T
    member = torch.from_numpy(facets.of_kind.toarray().T > 0)
    for row in range(len(kinds)):
        assert near[row][member[row]].mean() > near[row][~member[row]].mean() + 0.1


def test_figures_of_every_share(fitted, small_split):
    found = blend_figures(fitted, small_split)
    test = found["test"]
    assert test["cases"] == len(small_split.test) and 0 < test["new_cases"] <= test["cases"]
    assert test["betas"]["1.0"] == test["swapped"]["1.0"]  # no tags, no difference
    assert all(0 <= value <= 1 for row in test["betas"].values() for value in row.values())
    assert 0 <= test["tags"]["popular"] <= 1 and test["tags"]["kinds"] >= 1


def test_validation_chooses_among_shares_that_keep_the_recall():
    def row(recall, new):
        return {"recall": recall, "new_recall": new, "tail": 0.1}

    betas = {"1.0": row(0.5, 0.1), "0.8": row(0.495, 0.12), "0.5": row(0.4, 0.3)}
    assert chosen(betas) == 0.8
    assert chosen({"1.0": row(0.5, 0.2), "0.8": row(0.495, 0.12)}) == 1.0 == chosen({})


def test_the_table_explains_what_is_of_an_interest(fitted, small_split):
    table = fitted.explanations
    of_kind = fitted.facets.of_kind.toarray()
    assert table.height and (table["by"] == "rule").all()
    for item, kind in table.select("item", "interest").iter_rows():
        assert of_kind[item, kind]
    history = small_split.train.take(np.array([int(np.argmax(small_split.train.lengths))]))
    liked = fitted.miner.mine(history).interests[0]
    told = fitted.why(Requests(history), np.arange(40))
    for item, text in enumerate(told):
        shared = of_kind[item, liked[liked >= 0]].any() and item in table["item"]
        assert bool(text) == bool(shared)


def test_the_judge_is_a_rule():
    about = "Red Rose Soap. Soaps. Gentle soap with rose oil"
    for text, wrong in (
        ("If you like soaps, this gentle soap with rose oil suits you.", ""),
        ("Soap.", "unclear"),
        ("If you like soaps, this is guaranteed to cure your skin.", "unsafe"),
        ("This gentle thing with rose oil is great.", "irrelevant"),
        ("If you like soaps, this lavender soap suits you.", "not factual"),
    ):
        assert spoken.judged(text, "Soaps", about) == wrong, text


def test_a_model_s_sentences_are_judged_and_replaced(shop):
    from onoma.language.opening import open_model

    facets = Facets.of(shop, common=0.9)
    table, counts = spoken.table(
        shop.dataset, facets, [0, 1, 2], open_model(tiny_model()), tokens=8
    )
    assert counts["asked"] == table.height == 3
    assert counts["asked"] == sum(n for name, n in counts.items() if name != "asked")
    assert (table["by"] == "rule").sum() == 3 - counts["good"]


def test_the_report_shows_what_the_tags_add(fitted, small_split):
    told = {"blend": blend_figures(fitted, small_split), "recipe": "recgpt"}
    text = blend_section(told)
    assert "What the tags add" in text and "tags swapped" in text and text.count("<tr") == 11
    assert blend_section({}) == clicks_section({}) == written_section({}) == ""
