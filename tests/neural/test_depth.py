import numpy as np
import torch
from torch.nn import functional as F

from onoma.neural import depth as depth_module
from onoma.neural import loss as loss_module
from onoma.neural.depth import DepthDecoder
from onoma.neural.noise import Noise

SIZES = (7, depth_module._WIDE + 90, 5)


def named(monkeypatch):
    """A speller, contexts and codes: whole names, names that end early, rows that hold none."""
    monkeypatch.setattr(loss_module, "matrix_dtype", lambda kind="cpu": torch.float32)
    torch.manual_seed(0)
    model, rng = DepthDecoder(SIZES, 16, 2), np.random.default_rng(0)
    codes = torch.from_numpy(np.stack([rng.integers(0, size, 40) for size in SIZES], axis=1))
    codes[::3, 2:], codes[::4, 1:], codes[::5] = -1, -1, -1
    return model, torch.randn(40, 16), codes


def gradients(model, context, loss):
    """All but that of the last level's table, which nothing reads."""
    used = [p for p in model.parameters() if p is not model.tables[-1].weight]
    return torch.autograd.grad(loss, [context, *used])


def test_the_loss_is_the_cross_entropy_of_all_codes(monkeypatch):
    model, context, codes = named(monkeypatch)
    context.requires_grad_()
    loss = model.loss(context, codes)
    rows = zip(model(context, codes), codes.unbind(1), strict=True)
    plain = sum(F.cross_entropy(x, code, ignore_index=-1, reduction="sum") for x, code in rows)
    plain = plain / (codes[:, 0] >= 0).sum()
    assert torch.allclose(loss, plain, rtol=1e-5)
    pairs = zip(gradients(model, context, loss), gradients(model, context, plain), strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in pairs)


def test_lessons_of_the_codes_are_the_codes(monkeypatch):
    model, context, codes = named(monkeypatch)
    lessons = [
        F.one_hot(code.clamp(min=0), size).float() * (code >= 0)[:, None]
        for code, size in zip(codes.unbind(1), SIZES, strict=True)
    ]
    told = model.loss(context, codes, lessons)
    assert torch.allclose(told, model.loss(context, codes), rtol=1e-5)


def test_rows_that_do_not_count_are_hardly_read(monkeypatch):
    model, context, codes = named(monkeypatch)
    read: list[int] = []
    monkeypatch.setattr(model, "_read", lambda x: read.append(len(x)) or x)
    many = codes.repeat(20, 1)
    model.loss(context.repeat(20, 1), many)
    there = (many >= 0).sum(0)
    assert read == [int((-(-there // 128) * 128).clamp(max=len(many)).sum())]
    assert int(there.sum()) <= read[0] < many.numel() * 0.8


def test_a_block_is_a_squared_relu_with_its_gradients():
    """In both ways of computing it: with gradients, and in place without."""
    torch.manual_seed(0)
    block = depth_module._Block(8, 4, 0.0, Noise()).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    plain = x + block.down(F.relu(block.up(block.norm(x))).square())
    torch.testing.assert_close(block(x), plain)
    with torch.no_grad():
        torch.testing.assert_close(block(x), plain)
    weights = (block.up.weight, block.down.weight)
    assert torch.autograd.gradcheck(depth_module._Feed.apply, (x, *weights))
