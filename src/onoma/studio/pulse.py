"""What the service measures, read every few seconds: rates, latencies and what happened last."""

from __future__ import annotations

import bisect
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from onoma.serving.metrics import Metrics

EVERY = 2.0  # seconds between readings
KEPT = 150  # readings
K = TypeVar("K")
COUNTED = ("/v1", "/health", "/metrics", "/openapi")  # not the pages and what they are made of


@dataclass
class Times:
    """A latency histogram: ``counts[i]`` requests took up to ``bounds[i]`` seconds, not summed."""

    bounds: list[float] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)

    def quantile(self, q: float) -> float | None:
        """Seconds, linear inside a bucket; the last finite bound above it; None for no request."""
        total = sum(self.counts)
        if total <= 0:
            return None
        wanted, passed = q * total, 0.0
        for place, count in enumerate(self.counts):
            if count > 0 and passed + count >= wanted:
                low = self.bounds[place - 1] if place else 0.0
                high = self.bounds[place]
                if math.isinf(high):
                    return low
                return low + (high - low) * (wanted - passed) / count
            passed += count
        return None

    def __sub__(self, other: Times) -> Times:
        if not other.counts:
            return self
        pairs = zip(self.counts, other.counts, strict=True)
        return Times(self.bounds, [new - old for new, old in pairs])

    def __add__(self, other: Times) -> Times:
        if not other.counts:
            return self
        if not self.counts:
            return other
        pairs = zip(self.counts, other.counts, strict=True)
        return Times(self.bounds, [one + two for one, two in pairs])


@dataclass
class Reading:
    """All counters at one moment, or their growth between two.

    Attributes:
        at: Unix seconds.
        requests: by route and status.
        times: by route.
        stages: by stage of an answer.
        events: by fate.
        fallbacks: by what answered instead.
        batches: answers and batches.
    """

    at: float
    requests: dict[tuple[str, str], float] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    stages: dict[str, Times] = field(default_factory=dict)
    events: dict[str, float] = field(default_factory=dict)
    fallbacks: dict[str, float] = field(default_factory=dict)
    batches: tuple[float, float] = (0.0, 0.0)

    def since(self, before: Reading) -> Reading:
        """The growth since an earlier reading."""
        return Reading(
            self.at,
            _less(self.requests, before.requests),
            {key: value - before.times.get(key, Times()) for key, value in self.times.items()},
            {key: value - before.stages.get(key, Times()) for key, value in self.stages.items()},
            _less(self.events, before.events),
            _less(self.fallbacks, before.fallbacks),
            (self.batches[0] - before.batches[0], self.batches[1] - before.batches[1]),
        )

    @property
    def count(self) -> float:
        """Requests."""
        return sum(self.requests.values())

    @property
    def together(self) -> Times:
        """The times of all routes."""
        return sum(self.times.values(), Times())


def _less(new: Mapping[K, float], old: Mapping[K, float]) -> dict[K, float]:
    return {key: value - old.get(key, 0.0) for key, value in new.items()}


def read(metrics: Metrics) -> Reading:
    """The counters of this process as they stand."""
    out = Reading(time.time())
    sizes = {"sum": 0.0, "count": 0.0}
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels, value = sample.labels, sample.value
            if not labels.get("route", "/v1").startswith(COUNTED):
                continue
            if sample.name == "onoma_requests_total":
                out.requests[labels["route"], labels["status"]] = value
            elif sample.name == "onoma_request_seconds_bucket":
                _put(out.times, labels["route"], labels["le"], value)
            elif sample.name == "onoma_stage_seconds_bucket":
                _put(out.stages, labels["stage"], labels["le"], value)
            elif sample.name == "onoma_events_total":
                out.events[labels["status"]] = value
            elif sample.name == "onoma_fallbacks_total":
                out.fallbacks[labels["by"]] = value
            elif sample.name in ("onoma_batch_size_sum", "onoma_batch_size_count"):
                sizes[sample.name.rpartition("_")[2]] = value
    out.batches = (sizes["sum"], sizes["count"])
    return out


def _put(table: dict[str, Times], key: str, bound: str, total: float) -> None:
    """One bucket of a histogram, whose samples are sums from zero in the order of the bounds."""
    times = table.setdefault(key, Times())
    times.counts.append(total - sum(times.counts))
    times.bounds.append(float(bound))


class Pulse:
    """Readings of the last minutes.

    Args:
        metrics: of the service.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.readings: deque[Reading] = deque([read(metrics)], maxlen=KEPT)

    def sample(self) -> None:
        """Take a reading."""
        self.readings.append(read(self._metrics))

    def last(self, seconds: float) -> tuple[Reading, float]:
        """The growth over the last seconds, and how many they were."""
        new = self.readings[-1]
        at = bisect.bisect_left([each.at for each in self.readings], new.at - seconds - 0.5)
        old = self.readings[min(at, len(self.readings) - 1)]
        return new.since(old), new.at - old.at

    def series(self) -> tuple[list[float | None], list[float | None], list[float | None]]:
        """Between readings: requests a second, and milliseconds of half and of 99 of 100."""
        rate: list[float | None] = []
        half: list[float | None] = []
        most: list[float | None] = []
        rows = list(self.readings)
        for old, new in zip(rows, rows[1:], strict=False):
            grown = new.since(old)
            rate.append(grown.count / max(new.at - old.at, 1e-9))
            times = grown.together
            half.append(_ms(times.quantile(0.5)))
            most.append(_ms(times.quantile(0.99)))
        return rate, half, most


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def spark(values: Sequence[float | None], top: float, length: int = KEPT - 1) -> str:
    """The points of an SVG path over 300 x 60, the newest at the right, gaps left out.

    Args:
        values: None for a gap.
        top: the value at the upper edge.
        length: values from edge to edge.
    """
    top = max(top, 1e-9)
    parts, pen = [], False
    offset = length - len(values)
    for place, value in enumerate(values):
        if value is None:
            pen = False
            continue
        x = 300 * (place + offset) / max(length - 1, 1)
        parts.append(f"{'L' if pen else 'M'}{x:.1f} {58 - 54 * value / top:.1f}")
        if not pen and (place + 1 == len(values) or values[place + 1] is None):
            parts.append("h.1")  # a point by itself
        pen = True
    return "".join(parts)
