"""The fused softmax against PyTorch's own, and the item it draws against its distribution."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from onoma.neural import loss as fused


@pytest.fixture(params=["bf16-or-native", "float32"])
def dtype(request, monkeypatch):
    if request.param == "float32":
        monkeypatch.setattr(fused, "matrix_dtype", lambda kind="cpu": torch.float32)
    return request.param


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_full_softmax_matches_cross_entropy(dtype, scale):
    torch.manual_seed(0)
    states = (torch.randn(300, 16) * scale).requires_grad_()
    table = torch.randn(1000, 16, requires_grad=True)
    targets = torch.randint(1000, (300,))
    loss = fused.full_softmax(states, table, targets)
    loss.backward()
    mine = states.grad.clone(), table.grad.clone()
    states.grad = table.grad = None
    reference = F.cross_entropy(states @ table.T, targets)
    reference.backward()
    exact = dtype == "float32" or not fused.matrix_dtype() == torch.bfloat16
    tolerance = 1e-4 if exact else 5e-2
    assert loss.item() == pytest.approx(reference.item(), rel=tolerance)
    for got, want in zip(mine, (states.grad, table.grad), strict=True):
        assert torch.linalg.norm(got - want) <= 2 * tolerance * torch.linalg.norm(want)


def test_drawn_items_follow_the_model():
    torch.manual_seed(1)
    state, table = torch.randn(1, 8), torch.randn(30, 8)
    n = 40_000
    uniform = torch.from_numpy(np.random.default_rng(0).random(n, dtype=np.float32))
    _, drawn = fused.full_softmax_and_draw(
        state.expand(n, 8), table, torch.zeros(n, dtype=torch.long), uniform
    )
    share = torch.bincount(drawn, minlength=30) / n
    want = torch.softmax(state @ table.T, 1)[0]
    assert (share - want).abs().max() < 0.012


@pytest.mark.parametrize("power", [0.0, 3.0], ids=["uniform", "popular"])
def test_sampled_softmax_estimates_the_full_one(power):
    torch.manual_seed(3)
    states, table = torch.randn(20, 8), torch.randn(200, 8)
    targets = torch.randint(200, (20,))
    q = torch.rand(200).mul(4).exp() ** (power / 3) + 0.01
    q = q / q.sum()
    sample = torch.multinomial(q, 20_000, replacement=True)
    log_count = torch.log(q * len(sample))[sample]
    got = fused.sampled_softmax(states, table, targets, sample, log_count).item()
    wrong = fused.sampled_softmax(
        states, table, targets, sample, torch.full((len(sample),), np.log(len(sample) / 200))
    ).item()
    want = F.cross_entropy(states @ table.T, targets).item()
    assert got == pytest.approx(want, rel=2e-2)
    assert power == 0 or abs(wrong - want) > abs(got - want)
