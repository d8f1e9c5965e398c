"""DARE: the shared suite, then the search, the tables and what flows where."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance import Conformance

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.ranking.clicks import Pairs
from onoma.recommenders.ranking.dare import DARE, DAREModule, DARESettings

QUICK = {"epochs": 4, "lr": 1e-2, "valid_every": 2, "patience": 9}
SMALL = {"width": 8, "length": 12, "keep": 3, "batch": 64, "train": QUICK, "quiet": True}
KINDS = np.stack([np.arange(30) % 5 + 1, np.zeros(30, dtype=np.int64)], axis=1)


class TestDARE(Conformance):
    def make(self):
        return DARE(attention=2, **SMALL)


def module(**settings):
    torch.manual_seed(0)
    made = DAREModule(KINDS, DARESettings(**{"width": 8, "length": 12, "keep": 4, **settings}))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def asked(lengths=(12, 7, 3, 1, 0), seed=0):
    rng = np.random.default_rng(seed)
    rows = Ragged.from_rows([rng.integers(0, 30, n) for n in lengths])
    m = len(lengths)
    return Pairs(
        torch.from_numpy(rows.padded(30, width=12).astype(np.int64)),
        torch.zeros(m, dtype=torch.int64),
        torch.from_numpy(rng.integers(0, 30, m)),
        torch.tensor(lengths),
    )


@pytest.mark.parametrize("tables", ["decoupled", "shared", "projected", "four"])
def test_logits_equal_a_loop_over_pairs_and_items(tables):
    made, pairs = module(tables=tables), asked()
    found = made.logits(pairs)
    asking, item, told, read = made.tables()
    place = made.read_place.weight
    when = place if made.asked_place is None else made.asked_place.weight
    for row in range(len(pairs)):
        target = int(pairs.items[row])
        history = [int(code) for code in pairs.history[row] if code < 30]
        scores = [
            asking[target] @ item[code] / asking.shape[1] ** 0.5
            + when[0] @ when[len(history) - j] / 4
            for j, code in enumerate(history)
        ]
        best = sorted(range(len(history)), key=lambda j: -scores[j].item())[:4]
        own = torch.cat([told[target], place[0]])
        pooled = torch.zeros_like(own)
        if best:
            weights = torch.stack([scores[j] for j in best]).softmax(0)
            for j, weight in zip(best, weights, strict=True):
                there = torch.cat([read[history[j]], place[len(history) - j]])
                pooled = pooled + weight * there
        logit = made.head(torch.cat([own, pooled, own * pooled])[None])[0, 0]
        torch.testing.assert_close(found[row], logit, rtol=1e-4, atol=1e-5)


def test_padding_is_never_read_however_low_the_scores_are():
    made, pairs = module(keep=2), asked()
    with torch.no_grad():  # all scores far below 0, which padding must not beat
        made.asked_place.weight.fill_(-3.0)
        made.asked_place.weight[0].fill_(3.0)
    weights, items, places, _ = made.attend(pairs, made.tables())
    assert (items[weights > 0] < 30).all() and (places[weights > 0] > 0).all()
    some = pairs.history[:, 0] < 30
    torch.testing.assert_close(weights.sum(1), some.float())


def test_search_and_reading_share_no_parameter_unless_asked_to():
    def touched(tables):
        made = module(tables=tables)
        a, b = made.tables()[1], made.tables()[3]
        names = dict(made.named_parameters())

        def reached(what):
            grads = torch.autograd.grad(what.sum(), list(names.values()), allow_unused=True)
            return {name for name, grad in zip(names, grads, strict=True) if grad is not None}

        return reached(a) & reached(b)

    assert not touched("decoupled") and not touched("four")
    assert touched("shared") and touched("projected")


def test_candidates_have_tables_of_their_own_only_in_the_control():
    both, four = module().tables(), module(tables="four").tables()
    assert both.asking is both.asked and both.told is both.read
    assert not torch.equal(four.asking, four.asked) and not torch.equal(four.told, four.read)


def test_search_by_category_reads_the_newest_of_the_same():
    made, pairs = module(search="category", keep=2), asked((12, 12, 12, 5), seed=3)
    weights, items, places, _ = made.attend(pairs, made.tables())
    for row in range(len(pairs)):
        history = [int(code) for code in pairs.history[row] if code < 30]
        kind = int(pairs.items[row]) % 5
        want = [len(history) - j for j, code in enumerate(history) if code % 5 == kind]
        got = sorted(int(place) for place, weight in zip(places[row], weights[row], strict=True)
                     if weight > 0)  # fmt: skip
        assert got == sorted(want)[:2]


def test_a_smaller_search_leaves_the_reading_as_it_is(small_split):
    model = DARE(attention=2, **SMALL).fit(small_split)
    tables = model.module.tables()
    fields = model.module.fields.shape[1]
    assert tables.asked.shape[1] == 2 * fields and tables.read.shape[1] == 8 * fields
    assert model.item_vectors().shape == (small_split.dataset.n_items, 8 * fields)


def test_what_lies_outside_the_length_is_not_read(small_split):
    model = DARE(**{**SMALL, "train": {**QUICK, "epochs": 1}}).fit(small_split)
    recent = list(range(12))
    long, short = Ragged.from_rows([[20, 21, *recent]]), Ragged.from_rows([recent])
    torch.testing.assert_close(model.score(Requests(long)), model.score(Requests(short)))
    other = Requests(Ragged.from_rows([recent[::-1]]))
    assert not torch.allclose(model.score(other), model.score(Requests(short)))


def test_taste_is_told_from_chance(small_split):
    model = DARE(**{**SMALL, "train": {**QUICK, "epochs": 30}}).fit(small_split)
    assert model.click_figures(small_split.valid)["auc"] > 0.6
    assert model.training["valid_auc"] == pytest.approx(
        model.click_figures(small_split.valid)["auc"]
    )
    blind = replace(Requests.of(small_split.test), users=None)
    torch.testing.assert_close(model.score(blind), model.score(Requests.of(small_split.test)))


@pytest.mark.parametrize("tables", ["shared", "projected", "four"])
def test_controls_leave_checkpoints_and_load_again(tables, small_split, tmp_path):
    settings = {**SMALL, "train": {**QUICK, "epochs": 2}, "tables": tables}
    model = DARE(**settings, folder=tmp_path).fit(small_split)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    model.save(tmp_path)
    asked = Requests.of(small_split.test)
    again = DARE.load(tmp_path, small_split.dataset)
    torch.testing.assert_close(again.score(asked), model.score(asked))


def test_bad_settings_are_refused():
    for wrong in ({"tables": "three"}, {"keep": 0}, {"search": "magic"}):
        with pytest.raises(ValueError):
            DARE(**wrong)
