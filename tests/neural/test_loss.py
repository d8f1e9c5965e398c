"""The fused softmax against PyTorch's own, and the item it draws against its distribution."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from onoma.indexing.trie import Trie
from onoma.neural import loss as fused
from onoma.neural import teacher as teaching
from onoma.neural.teacher import NameTeacher


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
    targets[::7] = -1  # rows that do not count
    loss = fused.full_softmax(states, table, targets)
    loss.backward()
    mine = states.grad.clone(), table.grad.clone()
    states.grad = table.grad = None
    reference = F.cross_entropy(states @ table.T, targets, ignore_index=-1)
    reference.backward()
    exact = dtype == "float32" or not fused.matrix_dtype() == torch.bfloat16
    tolerance = 1e-4 if exact else 5e-2
    assert loss.item() == pytest.approx(reference.item(), rel=tolerance)
    for got, want in zip(mine, (states.grad, table.grad), strict=True):
        assert torch.linalg.norm(got - want) <= 2 * tolerance * torch.linalg.norm(want)


@pytest.mark.parametrize("product", [0, 1024], ids=["by sums", "by product"])
def test_the_teacher_draws_from_the_ranker_and_teaches_its_distribution(product, monkeypatch):
    torch.manual_seed(1)
    n = 40_000
    codes = torch.tensor(
        [[a, b, -1] for a in (2, 0, 1) for b in range(4)]
        + [[3, 1, c] for c in (0, 4)]
        + [[3, 2, -1], [3, 2, 1]]  # one ends where another goes on
    )
    logits = torch.randn(1, len(codes)) * 2
    want = torch.softmax(logits, 1)[0]
    uniform = torch.from_numpy(np.random.default_rng(0).random(n, dtype=np.float32))
    monkeypatch.setattr(teaching, "_PRODUCT", product)
    teacher = NameTeacher(Trie.build(codes.numpy(), (4, 4, 5)))
    drawn, lessons = teacher(logits.exp().expand(n, -1), uniform)
    share = torch.bincount(drawn, minlength=len(codes)) / n
    assert (share - want).abs().max() < 0.012
    path = codes[drawn]
    for level, lesson in enumerate(lessons):
        for name in path.unique(dim=0):
            row = lesson[(path == name).all(1)][0]
            inside = want * (codes[:, :level] == name[:level]).all(1)
            expected = torch.zeros(len(row))
            if name[level] >= 0:
                expected.scatter_add_(
                    0, codes[:, level].clamp(min=0), inside * (codes[:, level] >= 0)
                )
                expected /= expected.sum()
            assert torch.allclose(row, expected, atol=2e-2)


@pytest.mark.parametrize("power", [0.0, 3.0], ids=["uniform", "popular"])
def test_sampled_softmax_estimates_the_full_one(power):
    torch.manual_seed(3)
    states, table = torch.randn(20, 8), torch.randn(200, 8)
    targets = torch.randint(200, (20,))
    targets[3] = -1
    q = torch.rand(200).mul(4).exp() ** (power / 3) + 0.01
    q = q / q.sum()
    sample = torch.multinomial(q, 20_000, replacement=True)
    log_count = torch.log(q * len(sample))[sample]
    got = fused.sampled_softmax(states, table, targets, sample, log_count).item()
    wrong = fused.sampled_softmax(
        states, table, targets, sample, torch.full((len(sample),), np.log(len(sample) / 200))
    ).item()
    want = F.cross_entropy(states @ table.T, targets, ignore_index=-1).item()
    assert got == pytest.approx(want, rel=2e-2)
    assert power == 0 or abs(wrong - want) > abs(got - want)
