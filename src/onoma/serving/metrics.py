"""Counters and latency histograms in the Prometheus form."""

from __future__ import annotations

import os
import time
from collections import deque

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
_MS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 25, 50, 100, 250, 500, 1000, 2500, 10_000)
_SECONDS = tuple(ms / 1000 for ms in _MS)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_RECENT = 60
Request = tuple[float, str, int, float]  # Unix seconds, route, status, seconds taken
STAGES = ("wait", "prepare", "model", "format", "search", "explain", "chat", "store")


class Metrics:
    """What one process measures; with several, the files of all are added up.

    Attributes:
        recent: the latest requests of this process.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        r = self.registry
        self._requests = Counter(
            "onoma_requests_total", "Requests by route and status.", ["route", "status"], registry=r
        )
        self._seconds = Histogram(
            "onoma_request_seconds", "From request to response.", ["route"], buckets=_SECONDS,
            registry=r,
        )  # fmt: skip
        stage = Histogram(
            "onoma_stage_seconds", "Time of one stage of an answer.", ["stage"], buckets=_SECONDS,
            registry=r,
        )  # fmt: skip
        self.stage = {name: stage.labels(name) for name in STAGES}
        self.batch = Histogram(
            "onoma_batch_size", "Requests answered together.", buckets=_SIZES, registry=r
        )
        self.events = Counter("onoma_events_total", "Events by fate.", ["status"], registry=r)
        self.fallbacks = Counter(
            "onoma_fallbacks_total", "Answers by something else than the model.", ["by"], registry=r
        )
        self.items = Gauge(
            "onoma_items", "Items that may be answered.", registry=r, multiprocess_mode="mostrecent"
        )
        self.swaps = Counter("onoma_model_swaps_total", "Models put in place.", registry=r)
        self.recent: deque[Request] = deque(maxlen=_RECENT)
        self._by_route: dict[tuple[str, int], Counter] = {}
        self._times: dict[str, Histogram] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (route, status)
        if key not in self._by_route:
            self._by_route[key] = self._requests.labels(route, str(status))
            self._times[route] = self._seconds.labels(route)
        self.recent.append((time.time(), route, status, seconds))
        self._by_route[key].inc()
        self._times[route].observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        if not self._several:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
