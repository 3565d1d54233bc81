"""The figures of an engine."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class EngineMetrics:
    """Counters, on the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tokens = Counter("luthier_engine_tokens_total", "Tokens written", registry=registry)
        self.rows = Histogram(
            "luthier_engine_batch_rows",
            "Requests written together",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
