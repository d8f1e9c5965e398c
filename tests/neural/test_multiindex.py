"""Items drawn by a multi-index, and exactly."""

import pytest
import torch

from onoma.neural.multiindex import MultiIndex, draw_exactly


@pytest.fixture(scope="module")
def index():
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(60, 8), dim=1)
    return MultiIndex.of(vectors, 4, 0), vectors, torch.randn(3, 8) * 4


def shares(drawn, n):
    return torch.stack([torch.bincount(row, minlength=n) for row in drawn]) / drawn.shape[1]


def test_chances_are_a_softmax_of_products_with_what_stands_for_an_item(index):
    made, vectors, query = index
    stands = torch.cat([made.first[made.cells // 4], made.second[made.cells % 4]], dim=1)
    for half, centres in ((stands[:, :4], made.first), (stands[:, 4:], made.second)):
        whole = vectors[:, :4] if centres is made.first else vectors[:, 4:]
        assert torch.equal((whole - half).norm(dim=1), torch.cdist(whole, centres).amin(1)) or (
            torch.allclose((whole - half).norm(dim=1), torch.cdist(whole, centres).amin(1))
        )
    want = (query @ stands.T).double().log_softmax(1)
    torch.testing.assert_close(made.log_chance(query), want, rtol=1e-5, atol=1e-5)


def test_draws_follow_the_chances_that_are_told(index):
    made, _, query = index
    chance = torch.rand(3, 3, 60_000, generator=torch.Generator().manual_seed(1))
    drawn, told = made.draw(query, chance)
    exact = made.log_chance(query)
    torch.testing.assert_close(told.double(), exact.gather(1, drawn), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shares(drawn, 60).double(), exact.exp(), rtol=0.1, atol=4e-3)


def test_one_centroid_for_every_half_is_the_softmax_itself():
    torch.manual_seed(0)
    vectors, query = torch.randn(12, 6), torch.randn(5, 6)
    made = MultiIndex.of(vectors, 12, 0)
    want = (query @ vectors.T).double().log_softmax(1)
    torch.testing.assert_close(made.log_chance(query), want, rtol=1e-4, atol=1e-4)


def test_more_centroids_come_nearer_to_the_softmax(index):
    _, vectors, query = index
    exact = (query @ vectors.T).double().log_softmax(1)

    def far(size):
        told = MultiIndex.of(vectors, size, 0).log_chance(query)
        return (exact.exp() * (exact - told)).sum().item()

    assert far(1) > far(4) > far(16) > 0


def test_no_empty_cell_is_ever_drawn_from():
    vectors = torch.tensor([[5.0, 0.0], [0.0, 5.0]])  # two of four cells are empty
    made = MultiIndex.of(vectors, 2, 0)
    for edge in (0.0, 0.5, 1 - 2**-24):
        drawn, told = made.draw(torch.tensor([[9.0, 9.0]]), torch.full((3, 1, 7), edge))
        assert ((drawn >= 0) & (drawn < 2)).all() and told.isfinite().all()


def test_exact_draws_follow_the_softmax():
    logits = torch.tensor([[0.0, 2.0, -3.0, 1.0], [30.0, 0.0, 0.0, -torch.inf]])
    chance = torch.rand(2, 50_000, generator=torch.Generator().manual_seed(0))
    drawn, told = draw_exactly(logits, chance)
    torch.testing.assert_close(shares(drawn, 4), logits.softmax(1), rtol=0.1, atol=4e-3)
    torch.testing.assert_close(told, logits.log_softmax(1).gather(1, drawn))
