"""Metrics for Prometheus: the engine's counts, the server's own, and llama-server's names for some.

The registry is its own, so that two servers in one process, and the program around them, stay
apart.
"""

from __future__ import annotations

import itertools
from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ..engine.stats import SECONDS, EngineStats, Spread

if TYPE_CHECKING:
    from ..engine.engine import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """The registry of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http = Counter(
            "pillion_http_requests",
            "Answered requests; 499: the client left before.",
            ("route", "code"),
            registry=self.registry,
        )
        self._causes: Counts[str] = Counts()

    def follow(self, engine: Engine) -> None:
        """Includes the counts of this engine from now on."""
        self.registry.register(EngineCollector(engine, self._causes))

    def answered(self, route: str, status: int) -> None:
        """Counts an answered request."""
        self._http.labels(route, str(status)).inc()

    def cancelled(self, cause: str) -> None:
        """Counts a request that ended early because of its client or of the server."""
        self._causes[cause.replace(" ", "_")] += 1

    def text(self) -> bytes:
        """All metrics in the text form of /metrics."""
        return generate_latest(self.registry)


class EngineCollector:
    """Reads the engine's counts when somebody asks."""

    def __init__(self, engine: Engine, causes: Mapping[str, int]) -> None:
        self._engine = engine
        self._causes = causes

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats()
        yield from _requests(stats, self._causes)
        yield from _tokens(stats)
        yield from _cache(stats)
        yield from _times(stats)
        yield from _aliases(stats)


def _requests(stats: EngineStats, causes: Mapping[str, int]) -> Iterator[Metric]:
    yield _gauge("pillion_slots", "Sequences that go on at a time.", stats.slots)
    yield _gauge("pillion_requests_queued", "Requests that wait.", stats.queued)
    yield _gauge("pillion_requests_reading", "Requests whose prompt is read.", stats.reading)
    yield _gauge("pillion_requests_writing", "Requests whose text is written.", stats.writing)
    yield _counter("pillion_requests", "Requests taken in.", stats.requests)
    yield _counter(
        "pillion_requests_completed", "Requests that came to their own end.", stats.completed
    )
    yield _counter("pillion_requests_refused", "Requests that found the queue full.", stats.refused)
    words = "Those taken in that ended before their text did, each answer of n for itself."
    yield _labelled("pillion_requests_ended_early", words, "cause", stats.ended_early)
    early = {cause: n for cause, n in stats.ended_early.items() if cause != "cancelled"}
    words = "Requests that ended before their text did."
    yield _labelled("pillion_cancelled", words, "cause", {**early, **causes})


def _tokens(stats: EngineStats) -> Iterator[Metric]:
    by_source = {"run": stats.prompt_tokens_run, "cache": stats.prompt_tokens_cached}
    yield _labelled(
        "pillion_prompt_tokens", "Prompt tokens by where they came from.", "source", by_source
    )
    yield _counter("pillion_generated_tokens", "Tokens written.", stats.tokens)
    words = "Tokens that the drafter guessed, by their position in the round."
    yield _labelled("pillion_drafts", words, "position", _numbered(stats.drafted_at, 1))
    words = "Those of them that the model accepted."
    yield _labelled("pillion_drafts_accepted", words, "position", _numbered(stats.accepted_at, 1))
    words = "Rounds by the number of drafts in them."
    yield _labelled("pillion_rounds", words, "drafts", _numbered(stats.draft_lengths, 0))


def _cache(stats: EngineStats) -> Iterator[Metric]:
    rows = {"read": stats.rows_read, "write": stats.rows_written}
    yield _labelled("pillion_rows", "Rows of all runs by what they were for.", "kind", rows)
    words = "Pages of the cache that the sequences share."
    family = GaugeMetricFamily("pillion_pages", words, labels=["state"])
    family.add_metric(["used"], stats.pages - stats.free_pages)
    family.add_metric(["free"], stats.free_pages)
    yield family
    words = "Requests that made room for others and read their text again."
    yield _counter("pillion_requests_parked", words, stats.parked)
    words = "Requests that began with pages of another sequence."
    yield _counter("pillion_requests_shared", words, stats.shared)


def _times(stats: EngineStats) -> Iterator[Metric]:
    runs = HistogramMetricFamily("pillion_run_seconds", "Runs by what they did.", labels=["kind"])
    kinds = (("read", stats.read), ("write", stats.write), ("mixed", stats.mixed))
    for kind, spread in kinds:
        runs.add_metric([kind], _buckets(spread), spread.sum)
    yield runs
    for name, words, spread in (
        ("queue_seconds", "From a request's entry to its slot.", stats.queue),
        (
            "time_to_first_token_seconds",
            "From a request's entry to its first token.",
            stats.first_token,
        ),
        (
            "inter_token_seconds",
            "Between tokens; those of a round share its time.",
            stats.between_tokens,
        ),
        ("request_seconds", "From a request's entry to its end.", stats.total),
    ):
        yield HistogramMetricFamily(
            f"pillion_{name}", words, buckets=_buckets(spread), sum_value=spread.sum
        )


def _aliases(stats: EngineStats) -> Iterator[Metric]:
    """llama-server's names, for dashboards that have them."""
    words = "As llama-server has it."
    active = stats.reading + stats.writing
    for name, value in (
        ("prompt_tokens", stats.prompt_tokens_run),
        ("prompt_seconds", stats.read_seconds),
        ("tokens_predicted", stats.tokens),
        ("tokens_predicted_seconds", stats.write_seconds),
        ("n_decode", stats.runs),
    ):
        yield _counter(f"llamacpp:{name}", words, value)
    for name, value in (
        ("prompt_tokens_seconds", _rate(stats.prompt_tokens_run, stats.read_seconds)),
        ("predicted_tokens_seconds", _rate(stats.tokens, stats.write_seconds)),
        ("requests_processing", active),
        ("requests_deferred", stats.queued),
    ):
        yield _gauge(f"llamacpp:{name}", words, value)


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    bounds = [*(str(float(one)) for one in SECONDS), "+Inf"]
    return list(zip(bounds, map(float, itertools.accumulate(spread.classes)), strict=False))


def _numbered(counts: Sequence[int], first: int) -> dict[str, int]:
    return {str(at): n for at, n in enumerate(counts, first)}


def _rate(n: float, seconds: float) -> float:
    return n / seconds if seconds else 0.0


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(name, words, value=value)


def _labelled(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
