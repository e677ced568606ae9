"""The engine's counts as metrics of Ray, which adds the names of application, deployment and
replica, and exports them on every node."""

from __future__ import annotations

import threading
from typing import Any

from ...engine.engine import Engine
from ...server.metrics import EngineCollector

_EVERY = 5.0  # seconds; Ray itself exports every 10


class Publisher:
    """Publishes an engine's counts while it lives. every: seconds between two looks."""

    def __init__(self, engine: Engine, every: float = _EVERY) -> None:
        self._collector = EngineCollector(engine, {})
        self._made: dict[str, Any] = {}
        self._before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pillion-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publishes the last counts and ends."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self.publish()
        self.publish()

    def publish(self) -> None:
        """Publishes gauges and counters as they stand. Histograms stay with /metrics, as their
        buckets cannot be set from outside."""
        for family in self._collector.collect():
            if family.type not in ("gauge", "counter") or ":" in family.name:
                continue  # a colon: llama-server's names for the same
            for sample in family.samples:
                tags = {key: str(value) for key, value in sample.labels.items()}
                if family.type == "gauge":
                    self._metric(sample.name, family, tags).set(sample.value, tags=tags)
                    continue
                key = (sample.name, tuple(sorted(tags.items())))
                grown = sample.value - self._before.get(key, 0.0)
                if grown > 0:
                    self._before[key] = sample.value
                    self._metric(sample.name, family, tags).inc(grown, tags=tags)

    def _metric(self, name: str, family: Any, tags: dict[str, str]) -> Any:
        if name not in self._made:
            from ray.serve import metrics

            kind: Any = metrics.Gauge if family.type == "gauge" else metrics.Counter
            self._made[name] = kind(name, family.documentation, tag_keys=tuple(tags))
        return self._made[name]
