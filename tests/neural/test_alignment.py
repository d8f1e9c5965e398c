"""Alignment losses and the spectrum of a table."""

import numpy as np
import pytest
import torch

from onoma.neural.alignment import mk_mmd, reconstruction
from onoma.neural.spectrum import Spectrum


def test_mmd_is_nothing_for_the_same_rows_in_any_order_and_grows_with_the_gap():
    torch.manual_seed(0)
    a = torch.randn(80, 4)
    assert float(mk_mmd(a, a[torch.randperm(80)])) == pytest.approx(0, abs=1e-5)
    near, far = (float(mk_mmd(a, torch.randn(80, 4) + gap)) for gap in (0.0, 2.0))
    assert 0 < near < 0.2 < 5 * near < far


def test_mmd_is_the_formula():
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])

    def kernel(x, y):
        return sum(np.exp(-((x - y) ** 2) / (2.0**k * 2.0)) for k in (0, 1))

    want = np.mean([kernel(x, y) for x in (0, 1) for y in (0, 1)]) + kernel(3, 3)
    want -= 2 * np.mean([kernel(0, 3), kernel(1, 3)])
    assert float(mk_mmd(a, b, (0, 1), bandwidth=2.0)) == pytest.approx(want, rel=1e-5)


def test_mmd_pulls_one_sample_onto_the_other():
    torch.manual_seed(0)
    goal, moved = torch.randn(64, 3), (torch.randn(64, 3) + 3).requires_grad_()
    optimiser = torch.optim.Adam([moved], lr=0.1)
    before = float(mk_mmd(moved, goal).detach())
    for _ in range(300):
        optimiser.zero_grad()
        mk_mmd(moved, goal).backward()
        optimiser.step()
    assert float(mk_mmd(moved, goal).detach()) < before / 10


def test_reconstruction_reads_the_first_units_of_rows_with_a_target():
    hidden = torch.tensor([[1.0, 0.0, 9.0], [5.0, 5.0, 5.0]])
    target = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    assert float(reconstruction(hidden, target, "mse")) == pytest.approx(2)
    assert float(reconstruction(hidden, target, "rmse")) == pytest.approx(2**0.5)
    assert float(reconstruction(hidden, target, "cosine")) == pytest.approx(0)
    assert float(reconstruction(hidden, target[1:].repeat(2, 1))) == 0
    with pytest.raises(ValueError, match="4 targets for 3"):
        reconstruction(hidden, torch.ones(2, 4))


def test_a_table_that_uses_k_directions_has_rank_k():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((200, 5)) - 0)
    basis -= basis.mean(axis=0)
    basis, _ = np.linalg.qr(basis)
    table = basis @ np.linalg.qr(rng.standard_normal((5, 5)))[0]
    wide = np.concatenate([table, np.zeros((200, 3))], axis=1) + 7
    told = Spectrum.of(wide).describe()
    assert told == {"width": 8, "effective_rank": 5.0, "used": 0.625, "directions": 5}
    assert Spectrum.of(np.ones((9, 2))).describe()["effective_rank"] == 0
