"""What the times of events say: when in the day and the week, how long since, how long ago."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from onoma.neural.hstu import BUCKETS, buckets

Told = Literal["calendar", "gap", "age"]
_HOUR, _HOURS, _DAYS = 3600, 24, 7
_START = 0.05  # standard deviation of fresh embeddings
_WAVES = 8


class Clock(nn.Module):
    """Vectors of times, to be added to those of events.

    Args:
        width: of a vector.
        told: ``calendar`` (hour of the day and day of the week, UTC), ``gap`` (since the event
            before) and ``age`` (at the time of the request).
        functional: gaps and ages as learned waves of their logarithm (Kazemi et al., Time2Vec,
            2019) instead of a vector for each doubling.
    """

    def __init__(self, width: int, told: Collection[Told], functional: bool = False) -> None:
        super().__init__()
        self.width, self.functional = width, functional
        self.calendar: nn.ModuleList | None = None
        if "calendar" in told:
            self.calendar = nn.ModuleList(nn.Embedding(n, width) for n in (_HOURS, _DAYS))
        self.gap = self._spans() if "gap" in told else None
        self.age = self._spans() if "age" in told else None
        for part in self.modules():
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=_START)

    def _spans(self) -> nn.Module:
        return Waves(self.width) if self.functional else nn.Embedding(BUCKETS + 1, self.width)

    def forward(self, times: Tensor, now: Tensor | None = None) -> Tensor:
        """Float32[b, l, width]; what is unknown adds nothing.

        Args:
            times: int64[b, l] Unix seconds, oldest first, -1 where unknown.
            now: int64[b], when the request came; None leaves ages out.
        """
        out = torch.zeros(*times.shape, self.width, device=times.device)
        known = (times >= 0)[:, :, None]
        if self.calendar is not None:
            hours = times.clamp(min=0) // _HOUR
            # 1 January 1970 was a Thursday; which day is which does not matter here.
            when = (hours % _HOURS, hours // _HOURS % _DAYS)
            for table, code in zip(self.calendar, when, strict=True):
                out = out + table(code) * known
        if self.gap is not None and times.shape[1] > 1:
            gaps = _spoken(self.gap, times[:, 1:], times[:, :-1])
            out = torch.cat([out[:, :1], out[:, 1:] + gaps], dim=1)
        if self.age is not None and now is not None:
            out = out + _spoken(self.age, now[:, None].expand_as(times), times)
        return out


class Waves(nn.Module):
    """One line and several sines of float[...] numbers, mixed to float[..., width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(1, _WAVES)
        self.mix = nn.Linear(_WAVES, width)

    def forward(self, numbers: Tensor) -> Tensor:
        """float32[..., width]."""
        wave: Tensor = self.into(numbers[..., None])
        out: Tensor = self.mix(torch.cat([wave[..., :1], wave[..., 1:].sin()], dim=-1))
        return out


def _spoken(part: nn.Module, later: Tensor, earlier: Tensor) -> Tensor:
    """float32[..., width] of the seconds between, 0 where one of the times is unknown."""
    known = ((later >= 0) & (earlier >= 0))[..., None]
    if isinstance(part, nn.Embedding):
        found: Tensor = part(buckets(later, earlier).clamp(max=BUCKETS))
    else:
        # Days rather than seconds, so that the numbers lie around 0.
        found = part((later - earlier).clamp(min=0).float().div(86_400).add(1e-3).log())
    return found * known
