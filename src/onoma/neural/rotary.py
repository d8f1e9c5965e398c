"""Rotary positions (Su et al., 2021): queries and keys turned by where, and when, tokens stand."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

_BASE = 10_000.0  # slowest turn by places, in places a radian (Su et al. 2021, section 3.2.2)


class Turn(NamedTuple):
    """What turns the queries and keys of a row of tokens.

    Attributes:
        spin: complex64[b, 1, n, c / 2], of length one.
    """

    spin: Tensor

    def of(self, x: Tensor) -> Tensor:
        """float[..., b, heads, n, c] with neighbours as the legs of pairs, each pair turned.

        In float32: bf16 would keep three digits of an angle.
        """
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.spin).flatten(-2).to(x.dtype)

    def at(self, rows: Tensor, columns: Tensor) -> Turn:
        """Of one token a row, at int64[a] rows and columns."""
        return Turn(self.spin[rows, :, columns, None])


class Rotary(nn.Module):
    """Angles by place, and where asked half of them by time.

    A product of a turned query with a turned key hangs on the distance in places and on the hours
    between them, never on either alone. Turns by time have periods spread evenly, in logarithms,
    from the shortest to the longest one; seconds as they are would make every angle noise.

    Args:
        size: of a head, a multiple of four.
        timed: whether the second half of the pairs turns by time; else all turn by place.
        shortest: hours of the fastest turn.
        longest: hours of the slowest one.

    Raises:
        ValueError: a size that is no multiple of four.
    """

    place_rates: Tensor
    hour_rates: Tensor

    def __init__(self, size: int, timed: bool, shortest: float, longest: float) -> None:
        super().__init__()
        if size % 4:
            raise ValueError(f"width / heads is {size}; rotary positions need a multiple of 4")
        by_time = size // 4 if timed else 0
        by_place = size // 2 - by_time
        rates = _BASE ** -(torch.arange(by_place) / by_place)
        self.register_buffer("place_rates", rates, persistent=False)
        share = torch.arange(by_time) / max(1, by_time - 1)
        periods = shortest * (longest / shortest) ** share
        self.register_buffer("hour_rates", 2 * math.pi / periods, persistent=False)

    def forward(self, places: Tensor, hours: Tensor) -> Turn:
        """The turn of tokens.

        Args:
            places: int64[b, n] or int64[1, n], where they stand.
            hours: float32[b, n], when, since any moment that is the same for a row.
        """
        by_place = places[..., None] * self.place_rates
        by_time = hours[..., None] * self.hour_rates
        angles = torch.cat([by_place.expand(*by_time.shape[:2], -1), by_time], dim=-1)[:, None]
        return Turn(torch.polar(torch.ones_like(angles), angles))


def hours_of(times: Tensor) -> Tensor:
    """float32[b, n] hours since the first known moment of each row; 0 where nothing is known.

    Args:
        times: int64[b, n] Unix seconds, -1 where unknown.
    """
    first = times.masked_fill(times < 0, torch.iinfo(torch.int64).max).amin(1, keepdim=True)
    return (times - first).clamp(min=0).float() / 3600
