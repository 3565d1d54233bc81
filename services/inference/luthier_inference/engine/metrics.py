"""The figures of an engine."""

from __future__ import annotations

import weakref

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from luthier_inference.engine.row import Row

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_ADAPTERS = 100
"""Adapters with a label of their own; later ones share `other`."""


class EngineMetrics:
    """Counters and histograms, on the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tokens = Counter(
            "luthier_engine_tokens_total",
            "Tokens of prompts read, and tokens written",
            ["kind", "adapter"],
            registry=registry,
        )
        self.queued = Histogram(
            "luthier_engine_queue_seconds",
            "From a request's arrival to its first step",
            buckets=_SECONDS,
            registry=registry,
        )
        self.first = Histogram(
            "luthier_engine_first_token_seconds",
            "From a request's arrival to its first token",
            buckets=_SECONDS,
            registry=registry,
        )
        self.between = Histogram(
            "luthier_engine_inter_token_seconds",
            "Between two tokens of an answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self.rows = Histogram(
            "luthier_engine_batch_rows",
            "Requests computed in a step",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.steps = Histogram(
            "luthier_engine_step_seconds", "A step", buckets=_SECONDS, registry=registry
        )
        self.cache = Gauge(
            "luthier_engine_cache_bytes", "Keys and values of running requests", registry=registry
        )
        self.adapters = Gauge(
            "luthier_engine_adapters",
            "Adapters held, by tier: device, host or disk",
            ["tier"],
            registry=registry,
        )
        self.loads = Histogram(
            "luthier_engine_adapter_load_seconds",
            "From the store, or from disk, to host memory",
            buckets=_SECONDS,
            registry=registry,
        )
        self.load_failures = Counter(
            "luthier_engine_adapter_load_failures_total",
            "Adapters that could not be loaded",
            registry=registry,
        )
        self._last: weakref.WeakKeyDictionary[Row, float] = weakref.WeakKeyDictionary()
        self._names: set[str] = set()

    def joined(self, row: Row, now: float) -> None:
        """Count a row that begins."""
        if not row.written:
            self.queued.observe(now - row.arrived)
            self.tokens.labels("prompt", self._label(row)).inc(len(row.prompt))

    def wrote(self, row: Row, now: float) -> None:
        """Count a token."""
        last = self._last.get(row)
        if last is None:
            self.first.observe(now - row.arrived)
        else:
            self.between.observe(now - last)
        self._last[row] = now
        self.tokens.labels("completion", self._label(row)).inc()

    def stepped(self, *, rows: int, seconds: float, cache: int, adapters: int) -> None:
        """Count a step; `cache` in bytes, `adapters` on the device."""
        self.adapters.labels("device").set(adapters)
        self.rows.observe(rows)
        self.steps.observe(seconds)
        self.cache.set(cache)

    def _label(self, row: Row) -> str:
        name = row.digest[:12] or "base"
        if name not in self._names and len(self._names) < _ADAPTERS:
            self._names.add(name)
        return name if name in self._names else "other"
