"""What is computed by hand in T5's blocks, and the random bits it draws."""

import numpy as np
import pytest
import torch

from onoma.neural.noise import Dropout, Noise
from onoma.neural.t5 import Attention, FeedForward


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dropout_keeps_what_the_stream_s_bytes_say(dtype: torch.dtype) -> None:
    noise, dropout = Noise(), Dropout(0.3, Noise())
    noise.at(3, 7)
    dropout.noise.at(3, 7)
    raw = np.frombuffer(np.random.Generator(np.random.SFC64([3, 7])).bytes(35 * 9), np.uint8)
    kept = noise.kept(torch.Size((35, 9)), dropout.cut, dtype).numpy()
    np.testing.assert_array_equal(kept, np.where(raw.reshape(35, 9) < dropout.cut, 0, -1))

    x = torch.randn(35, 9, dtype=dtype)
    scale = torch.tensor(256 / (256 - dropout.cut), dtype=dtype)
    expected = torch.where(torch.from_numpy(kept != 0), x * scale, 0.0)
    torch.testing.assert_close(dropout.train()(x), expected, rtol=0, atol=0)


def test_gradients_written_by_hand_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    attention, feed = Attention(6, 2, 3).double(), FeedForward(6, 16, 0.4, Noise()).double()
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention.among, (x, bias))

    def dropped(x: torch.Tensor) -> torch.Tensor:
        feed.noise.at(0, 1)
        out: torch.Tensor = feed(x)
        return out

    assert torch.autograd.gradcheck(dropped, (x,))
    alone = dropped(x)
    assert not torch.equal(alone, feed.eval()(x))
