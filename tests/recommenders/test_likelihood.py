"""Titles by likelihood: the model's own numbers, in the order of the candidates."""

import numpy as np
import pytest
import torch
from prompted import PromptedConformance, tiny_model

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.language.likelihood import Likelihood, spoken

pytest.importorskip("transformers")


class TestLikelihood(PromptedConformance):
    def make(self):
        return Likelihood(model=tiny_model(), recent=2, shortlist=4)

    def test_candidates_come_by_the_probability_of_their_titles(self, model, n_items):
        history, items = [1, 2], np.array([[7, 3, 11]], dtype=np.int32)
        asked = Requests(Ragged.from_rows([history]), candidates=items)
        ranking = model.recommend(asked, 3)
        titles = [" " + spoken(t) for t in model.titles(items[0])]
        prompt = "Products like " + ", ".join(spoken(t) for t in model.titles(history)) + ","
        said = model.language.logprobs(prompt.replace("Products", "Movies"), titles).logprobs
        assert ranking.items[0].tolist() == items[0][np.argsort(-said)].tolist()

    def test_what_is_not_asked_about_follows_by_popularity(self, model, requests, n_items):
        scores = model.score(requests)
        asked = (scores > 0).sum(dim=1)
        assert bool((asked == 4).all())
        rest = torch.where(scores > 0, torch.nan, scores)
        counts = model.counts
        row = rest[0].numpy()
        order = np.argsort(-row[~np.isnan(row)], kind="stable")
        assert (np.diff(counts[~np.isnan(row)][order]) <= 0).all()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Matrix, The (1999)", "The Matrix"),
        ("Shawshank Redemption, The (1994)", "The Shawshank Redemption"),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey"),
        ("Seven (a.k.a. Se7en) (1995)", "Seven"),
        ("1984", "1984"),
        ("(500) Days of Summer (2009)", "(500) Days of Summer"),
    ],
)
def test_titles_as_people_say_them(written, said):
    assert spoken(written) == said
