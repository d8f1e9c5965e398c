"""Unseen items stand beside the seen ones whose names they share longest."""

import numpy as np
import torch

from onoma.dataset import Ragged
from onoma.indexing import ItemIndex
from onoma.recommenders.generative.unseen import UnseenItems

#                 0       1       2       3       4       5
NAMES = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]], dtype=np.int32)
SEEN = np.array([True, True, False, True, False, False])  # 5 shares no code with any seen item


def unseen():
    return UnseenItems(ItemIndex(NAMES, (3, 3), "random"), SEEN)


def beam(*rows):
    items = torch.tensor([[item for item, _ in row] for row in rows])
    return items, torch.tensor([[score for _, score in row] for row in rows])


def test_a_guest_takes_its_place_beside_the_best_host():
    row = [(3, -1.0), (0, -1.5), (1, -3.0)]
    ranking = unseen().join(*beam(row), 3, 0.34, Ragged.empty(1))
    assert ranking.items.tolist() == [[3, 0, 4]]  # 4 beside 3 is better than 2 beside 0
    assert (np.diff(ranking.scores[0]) <= 0).all() and ranking.scores[0, 2] == -2.0
    assert unseen().join(*beam(row), 3, 0.3, Ragged.empty(1)).items.tolist() == [[3, 0, 1]]


def test_forbidden_guests_stay_out_and_seen_items_fill_the_places():
    row = [(3, -1.0), (0, -1.5), (1, -3.0)]
    ranking = unseen().join(*beam(row), 3, 0.67, Ragged.from_rows([[4, 0]]))
    assert ranking.items.tolist() == [[3, 2, 1]] and (np.diff(ranking.scores[0]) < 0).all()
    ranking = unseen().join(*beam(row), 3, 0.67, Ragged.from_rows([[4, 2]]))
    assert ranking.items.tolist() == [[3, 0, 1]]


def test_a_shorter_list_is_the_beginning_of_a_longer_one():
    row = [(3, -1.0), (0, -1.5), (1, -3.0)]
    for share in (0.2, 0.34, 0.5, 0.9):
        long, short = (
            unseen().join(*beam(row), k, share, Ragged.empty(1)).items[0, :2] for k in (6, 2)
        )
        assert long.tolist() == short.tolist()


def test_short_beams_and_unseen_items_that_were_spelled():
    ranking = unseen().join(*beam([(5, -1.0), (-1, -np.inf), (1, -2.0)]), 4, 0.5, Ragged.empty(1))
    assert ranking.items.tolist() == [[1, 5, 2, -1]]
    assert ranking.scores[0, 3] == -np.inf and (np.diff(ranking.scores[0, :3]) <= 0).all()


def test_the_deepest_shared_prefix_decides_the_company():
    names = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 2]], dtype=np.int32)
    table = UnseenItems(ItemIndex(names, (1, 2, 3), "random"), np.array([True, True, True, False]))
    assert table.beside[:3].tolist() == [[3], [3], [-1]]
