"""What answers are worth to a text recommender: any number of questions, given candidates alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_text import lcrec, p5

from onoma.dataset import Ragged
from onoma.recommenders.base import Requests
from onoma.recommenders.text.base import TextRecommender

pytest.importorskip("transformers")

BRIEF = {"epochs": 1, "batch_tokens": 4096, "valid_every": 1}


@pytest.fixture(scope="module", params=[p5, lcrec])
def model(request, small_split):
    return request.param(train=BRIEF, families={"sequential": 1}).fit(small_split)


def test_an_answer_is_worth_the_same_among_any_number(model, small_split):
    """65 questions leave one behind the 64 that are read at once; 40 answers each fill a part."""
    requests = Requests(Ragged.from_rows([[row % 40, (row + 1) % 40] for row in range(65)]))
    questions = model.asked(requests)
    answers = np.broadcast_to(model.spelling.tokens, (65, *model.spelling.tokens.shape))
    whole = model.likelihood(questions, answers)
    assert whole.shape == answers.shape[:2] and (whole < 0).all()
    for row in (0, 64):
        alone = model.likelihood(questions[row : row + 1], answers[row : row + 1])
        np.testing.assert_allclose(alone[0], whole[row], rtol=1e-4, atol=1e-4)
    assert model.likelihood(questions, answers[:, :0]).shape == (65, 0)


def test_of_given_candidates_nothing_else_is_scored(model, small_split, monkeypatch):
    requests = Requests.of(small_split.test).slice(0, 5)
    whole = model.score(requests)
    monkeypatch.setattr(TextRecommender, "score", None)
    rows = np.tile(np.array([7, 3, -1, 7, 11, 5], dtype=np.int32), (5, 1))
    rows[0] = -1
    asked = replace(requests, candidates=rows, exclude=Ragged.from_rows([[5]] * 5), mask_seen=False)
    ranking = model.recommend(asked, 4)
    assert (ranking.items[0] == -1).all() and (ranking.items[:, 3] == -1).all()
    for row in range(1, 5):
        assert sorted(ranking.items[row, :3]) == [3, 7, 11]
        right = whole[row, torch.from_numpy(ranking.items[row, :3].astype(np.int64))]
        np.testing.assert_allclose(ranking.scores[row, :3], right, rtol=0.02, atol=0.1)
    seen = replace(asked, history=Ragged.from_rows([[3]] * 5), mask_seen=True, times=None)
    assert not np.isin(model.recommend(seen, 4).items, [3, 5]).any()
