"""What Prometheus gets: the engine's numbers, the server's own, and llama-server's names for some.

An own registry, so that two servers in one process, and the program around, keep apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from ..generation import Piece
    from .serving import Serving

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TTFT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)
_GAP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class ServerMetrics:
    """The registry of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http = Counter(
            "pillion_http_requests",
            "Answered requests.",
            ("route", "code"),
            registry=self.registry,
        )
        self._cancelled = Counter(
            "pillion_cancelled",
            "Requests that ended before their answer did.",
            ("cause",),
            registry=self.registry,
        )
        self._ttft = Histogram(
            "pillion_time_to_first_token_seconds",
            "From a request's entry into the queue to its first token.",
            buckets=_TTFT,
            registry=self.registry,
        )
        self._gap = Histogram(
            "pillion_inter_token_seconds",
            "Between tokens of an answer; tokens of one round share its time.",
            buckets=_GAP,
            registry=self.registry,
        )

    def follow(self, serving: Serving) -> None:
        """From now on the engine's numbers are there."""
        self.registry.register(EngineCollector(serving))

    def answered(self, route: str, status: int) -> None:
        self._http.labels(route, str(status)).inc()

    def cancelled(self, cause: str) -> None:
        self._cancelled.labels(cause.replace(" ", "_")).inc()

    def watch(self, begun: float) -> Watch:
        """For one answer: its pieces in order."""
        return Watch(self._ttft, self._gap, begun)

    def text(self) -> bytes:
        """All of it, as /metrics says it."""
        return generate_latest(self.registry)


class Watch:
    """Times of one answer's tokens."""

    def __init__(self, ttft: Histogram, gap: Histogram, begun: float) -> None:
        self._ttft, self._gap = ttft, gap
        self._last = begun
        self._first = True

    def saw(self, piece: Piece) -> None:
        n = len(piece.tokens)
        if not n:
            return
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if self._first:
            self._first = False
            self._ttft.observe(passed)
            n -= 1
            passed = 0.0
        for _ in range(n):
            self._gap.observe(passed / n)


class EngineCollector:
    """The engine's plain numbers, read when somebody asks."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        running = list(self._serving.running)
        busy = [one for answers in running for one in answers.generations]
        states = [one.state for one in busy]
        yield _gauge("pillion_requests_queued", "Requests that wait.", states.count("queued"))
        n_active = sum(state in ("reading", "writing") for state in states)
        yield _gauge("pillion_requests_active", "Requests under way.", n_active)
        yield _gauge("llamacpp:requests_deferred", "Requests that wait.", states.count("queued"))
        yield _gauge("llamacpp:requests_processing", "Requests under way.", n_active)


def _gauge(name: str, words: str, value: Any) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counter(name: str, words: str, value: Any) -> Metric:
    return CounterMetricFamily(name, words, value=value)
