"""SynerGen: the shared suite, then who reads whom, when, what is asked and what trains it."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from conformance import Conformance
from torch.nn import functional as F

from onoma.dataset import Ragged, split
from onoma.dataset.dataset import Dataset
from onoma.encoding.text import item_texts, words_of
from onoma.errors import OnomaError
from onoma.evaluation.search import search_figures
from onoma.neural.rotary import hours_of
from onoma.recommenders.base import Requests
from onoma.recommenders.retrieval import searches
from onoma.recommenders.retrieval.synergen import SynerGen, _Joint
from onoma.recommenders.retrieval.unified import SynerGenModule, SynerGenSettings, Told

QUICK = {"epochs": 2, "lr": 5e-3, "valid_every": 1, "patience": 9, "batch_tokens": 128}
SMALL = {"width": 16, "heads": 2, "blocks": 2, "length": 6, "anchors": 24, "against": 8,
         "negatives": 32, "shortlist": 7, "encoder": "tfidf", "shortest": 0.001, "longest": 1.0,
         "quiet": True, "train": QUICK}  # fmt: skip
NEXT = 5  # the place in question


def synergen(**settings):
    return SynerGen(**{**SMALL, **settings})


class TestSynerGen(Conformance):
    def make(self):
        return synergen()


@pytest.fixture(scope="module")
def fitted(small_split):
    return synergen().fit(small_split)


def module(**settings):
    """Thirty items, ten queries, weights that let everything matter."""
    torch.manual_seed(0)
    made = SynerGenModule(
        30,
        SynerGenSettings(**{"width": 16, "blocks": 2, "length": 8, **settings}),
        None,
        torch.randn(30, 12),
        torch.randn(10, 12),
        torch.arange(30) % 10,
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def told(**changes):
    torch.manual_seed(1)
    items = torch.randint(0, 30, (2, 8))
    actions = torch.rand(2, 8) < 0.5
    times = torch.randint(0, 400 * 86_400, (2, 8)).sort(1).values
    return Told(items, actions, times)._replace(**changes)


def judged(made, given, candidates=None):
    """Retrieval states behind every place, and logits of four candidates behind place 4."""
    table, questions = made.table(), made.questions()
    read = made.read(given, table, questions)
    asked = made.everywhere(read, questions[[3, 10]][:, None].expand(-1, 8, -1))
    rows, ends = torch.tensor([0, 1]), torch.full((2,), NEXT - 1)
    codes = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]) if candidates is None else candidates
    return asked.states, made.ranked(read, asked, rows, ends, ends, F.embedding(codes, table))


@pytest.mark.parametrize("part", ["actions", "items", "times"])
def test_the_target_and_its_action_and_all_that_follows_leave_scores_unchanged(part):
    made, given = module(), told()
    there = getattr(given, part).clone()
    changes = {"actions": lambda x: ~x, "items": lambda x: (x + 7) % 30,
               "times": lambda x: x + 86_400 * 90}  # fmt: skip
    there[:, NEXT:] = changes[part](there[:, NEXT:])
    states, logits = judged(made, given)
    other, same = judged(made, given._replace(**{part: there}))
    assert torch.equal(states[:, :NEXT], other[:, :NEXT]) and torch.equal(logits, same)
    assert not torch.allclose(states[:, NEXT:], other[:, NEXT:])
    # What is corrupted before the target does change them.
    there = getattr(given, part).clone()
    there[:, NEXT - 2] = changes[part](there[:, NEXT - 2])
    assert not torch.allclose(logits, judged(made, given._replace(**{part: there}))[1])


def test_tokens_equal_one_long_masked_sequence():
    """Against attention over all tokens at once, with the mask and the angles written out."""
    made, given = module(), told()
    table, questions = made.table(), made.questions()
    codes = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    states, logits = judged(made, given)
    row, query = 0, 3
    events = table[given.items[row, :NEXT]] + made.action[given.actions[row, :NEXT].long()]
    asks = made.say(made.words)[made.query_of[given.items[row, :NEXT]]]
    events = events + asks * given.actions[row, :NEXT, None]
    x = torch.cat([events, questions[query][None], made.enlist(table[codes[row]])])
    place = torch.tensor([*range(NEXT), *[NEXT] * 5]).double()
    moment = given.times[row, [*range(NEXT), *[NEXT - 1] * 5]].double() / 3600
    mask = torch.zeros(NEXT + 5, NEXT + 5, dtype=torch.bool)
    mask[:NEXT, :NEXT] = torch.ones(NEXT, NEXT).tril().bool()
    mask[NEXT:, : NEXT + 1] = True
    mask |= torch.eye(NEXT + 5, dtype=torch.bool)
    angles = [place * 1.0, place * 0.01, moment * 2 * math.pi / 48, moment * 2 * math.pi / 17_520]
    spin = torch.exp(1j * torch.stack(angles, 1))
    for block in made.encoder.blocks:
        q, k, v = block._split(x[None])
        q, k = ((torch.complex(z[0, ..., ::2].double(), z[0, ..., 1::2].double()) * spin)
                for z in (q, k))  # fmt: skip
        scores = (q @ k.conj().transpose(1, 2)).real / 8**0.5
        weights = scores.masked_fill(~mask, -torch.inf).softmax(2).float()
        x = block._close(x[None], (weights @ v[0])[None])[0]
    x = made.encoder.norm(x)
    torch.testing.assert_close(states[row, NEXT - 1], x[NEXT], rtol=1e-3, atol=1e-4)
    want = made.head(x[NEXT + 1 :])[:, 0]
    product = F.normalize(table[codes[row]], dim=1) @ F.normalize(x[NEXT], dim=0) * 20
    torch.testing.assert_close(logits[row], want + product, rtol=1e-3, atol=1e-3)


def test_candidates_do_not_see_each_other_and_scoring_alone_is_the_same():
    made, given = module(), told()
    first = judged(made, given)[1]
    codes = torch.tensor([[1, 20, 21, 22], [5, 9, 9, 9]])
    torch.testing.assert_close(judged(made, given, codes)[1][:, 0], first[:, 0])
    alone = judged(made, given, codes[:, :1])[1]
    torch.testing.assert_close(alone[:, 0], first[:, 0])


@pytest.mark.parametrize("positions", ["time", "order"])
def test_times_count_by_their_distances_and_only_where_asked(positions):
    made, given = module(positions=positions), told()
    first = judged(made, given)[1]
    later = judged(made, given._replace(times=given.times + 7 * 86_400))[1]
    torch.testing.assert_close(later, first, rtol=1e-3, atol=1e-3)
    wider = judged(made, given._replace(times=given.times * 3))[1]
    assert torch.allclose(wider, first, rtol=1e-4, atol=1e-4) == (positions == "order")


def test_hours_count_from_the_first_known_moment():
    """From 1970 on, float32 could not tell a minute."""
    hours = hours_of(torch.tensor([[1_400_000_000, 1_400_000_060, -1], [-1, -1, -1]]))
    assert hours.tolist() == [[0.0, pytest.approx(1 / 60), 0.0], [0.0, 0.0, 0.0]]


def test_queries_hold_words_once_and_never_a_title(small_split):
    items = pl.DataFrame(
        {
            "title": ["Red lipstick by Coty", "Lipstick", "Coty lipstick", None, "Soap", "Mist"],
            "categories": [["Beauty", "Red lipstick"], ["Lipstick"], ["Beauty", "Lipstick"],
                           ["Beauty", "Soap", "soap"], None, ["Fragrance"]],
            "brand": ["Coty", "Coty", "Coty", "Unknown", "Coty", "brand_9050"],
        }
    )  # fmt: skip
    assert searches.queries(items) == [
        "beauty red lipstick coty", "", "beauty lipstick", "beauty soap", "", "fragrance",
    ]  # fmt: skip
    assert searches.queries(items.drop("categories")) == [""] * 6
    catalogue = small_split.dataset.items
    asked = searches.queries(catalogue)
    titles = item_texts(catalogue, ("title",))
    for query, title in zip(asked, titles, strict=True):
        named = set(words_of([title])["term"])
        assert not query or not named or not named <= set(query.split())
    assert sum(map(bool, asked)) > 30


def test_half_of_the_purchases_are_searches_whatever_follows():
    rng = np.random.default_rng(0)
    whole = Ragged.from_rows([rng.integers(0, 1000, 30) for _ in range(300)])
    did = searches.searched(whole, 0.5)
    assert did.mean() == pytest.approx(0.5, abs=0.03)
    assert not searches.searched(whole, 0).any() and searches.searched(whole, 1).all()
    cut = Ragged.from_rows([whole[row][:11] for row in range(300)])
    assert np.array_equal(
        searches.searched(cut, 0.5).reshape(300, 11), did.reshape(300, 30)[:, :11]
    )
    # Neither an item nor a place decides alone.
    same = searches.searched(Ragged.from_rows([[7] * 400]), 0.5)
    assert 0.4 < same.mean() < 0.6


def test_training_sees_the_history_that_answering_sees(fitted, small_split):
    task, n = _Joint(fitted, small_split), small_split.dataset.n_items
    for batch in task.plan(0, 0)[:4]:
        given, following, did = task.tensors(batch)
        for place, window in enumerate(batch):
            user = int(task.batches.owners[window])
            whole = small_split.train[user]
            ends = int((given.items[place] < n).sum())
            for cut in range(ends, len(whole)):
                history = Ragged.from_rows([whole[:cut]])
                again, at = fitted.told(history, None)
                if (again.items[0, -ends:].tolist() == given.items[place, :ends].tolist()
                        and int(whole[cut]) == int(following[place, ends - 1])):  # fmt: skip
                    assert torch.equal(again.actions[0, -ends:], given.actions[place, :ends])
                    target = Ragged.from_rows([whole[: cut + 1]])
                    assert bool(fitted.actions(target).values[-1]) == bool(did[place, ends - 1])
                    break
            else:
                raise AssertionError("no history holds the window")


def test_the_second_pass_orders_what_the_first_found(fitted, small_split):
    asked = Requests.of(searches.asked_for(small_split.test, fitted.queries))
    proposed = fitted.recommend(asked, 7, mode="retrieve")
    answer = fitted.recommend(asked, 12)
    assert np.array_equal(np.sort(answer.items[:, :7]), np.sort(proposed.items))
    logits = fitted.passes(asked)[1](torch.from_numpy(proposed.items.astype(int)))
    order = logits.argsort(dim=1, descending=True).numpy()
    assert np.array_equal(answer.items[:, :7], np.take_along_axis(proposed.items, order, 1))


def test_a_query_changes_the_answer_and_none_is_none(fitted, small_split):
    cases = small_split.test
    plain = replace(Requests.of(cases), query=None)
    blank = replace(plain, query=["  "] * len(cases))
    assert torch.equal(fitted.score(plain), fitted.score(blank))
    known = replace(plain, query=["beauty red lipstick"] * len(cases))
    strange = replace(plain, query=["shampoo beauty"] * len(cases))
    assert not torch.allclose(fitted.states(plain), fitted.states(known))
    assert not torch.allclose(fitted.states(strange), fitted.states(known))


def test_search_finds_what_the_query_names_and_not_what_another_does(small_split):
    long = {**QUICK, "epochs": 12, "batch_tokens": 64, "valid_every": 12}
    model = synergen(train=long).fit(small_split)
    told = search_figures(model, small_split)
    assert told["cases"] == len(searches.asked_for(small_split.test, model.queries))
    assert told["rank"]["hr"] > 1.5 * told["other"]["hr"]
    assert "queries from categories and brand" in told["searches"]


@pytest.mark.parametrize("left_out", ["search", "recommend"])
def test_one_task_alone_saves_and_loads(left_out, small_split, tmp_path):
    model = synergen(**{left_out: 0}).fit(small_split)
    model.save(tmp_path)
    again = SynerGen.load(tmp_path, small_split.dataset)
    asked = Requests.of(small_split.test)
    torch.testing.assert_close(again.score(asked), model.score(asked))
    with_query = replace(asked, query=["beauty"] * len(asked))
    if left_out == "search":
        with pytest.raises(OnomaError, match="without search"):
            model.score(with_query)
    else:
        torch.testing.assert_close(again.score(with_query), model.score(with_query))


def test_every_loss_trains_its_own_part(small_split):
    def touched(**settings):
        model = synergen(dropout=0, input_dropout=0, **settings)
        torch.manual_seed(0)
        model.module = model._build(small_split)
        task = _Joint(model, small_split)
        loss = task.loss(task.plan(0, 0)[0])
        loss.backward()
        named = model.module.named_parameters()
        return {name.split(".")[0] for name, weight in named
                if weight.grad is not None and bool(weight.grad.any())}  # fmt: skip

    base = {"ids", "describe", "encoder", "action"}
    assert touched(search=0, point=0, pair=0) == base | {"no_query"}
    assert touched(recommend=0, point=0, pair=0) == base | {"say"}
    assert touched() == base | {"no_query", "say", "enlist", "head"}


def test_in_batch_negatives_lose_what_their_frequency_brings():
    made = module(negatives=4000)
    targets = torch.tensor([3] * 60 + [4] * 20 + [5] * 20)
    drawn, often = made._sample(targets)
    counts = torch.bincount(drawn, minlength=30)
    expected = often.exp()
    for item in (3, 4, 29):
        assert counts[item].item() == pytest.approx(expected[drawn == item][0].item(), rel=0.2)
    # Each drawn item weighs one over how often it was expected: the catalogue is counted once.
    assert (1 / expected).sum().item() == pytest.approx(30, rel=0.1)


def test_without_categories_it_recommends_and_says_so(small_split):
    data = small_split.dataset
    bare = split(Dataset.construct(
        data.interactions.select(
            data.users["user_id"].gather(pl.Series(data.interactions["user"])).alias("user_id"),
            data.items["item_id"].gather(pl.Series(data.interactions["item"])).alias("item_id"),
            "timestamp",
        ),
        data.items.drop("categories"), name="bare"))  # fmt: skip
    model = synergen().fit(bare)
    assert model.training["searches"] == "none: the catalogue has no categories, trained without"
    assert search_figures(model, bare) == {"searches": model.training["searches"]}
    with pytest.raises(OnomaError, match="without search"):
        model.score(replace(Requests.of(bare.test), query=["beauty"] * len(bare.test)))
    with pytest.raises(OnomaError, match="no searches to learn"):
        synergen(recommend=0).fit(bare)


def test_bad_settings_are_refused():
    for wrong in ({"shortlist": 0}, {"search": -1}, {"recommend": 0, "search": 0}, {"width": 20},
                  {"shortest": 2.0}, {"positions": "both"}, {"searched": 1.5}):  # fmt: skip
        with pytest.raises(ValueError):
            synergen(**wrong)
