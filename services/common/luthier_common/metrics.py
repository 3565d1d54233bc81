"""Metrics every service has; the registry is passed in, so that tests read their own."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

# Seconds: from a record read to a long upload or generation.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


def new_registry() -> CollectorRegistry:
    """Return a registry that holds the figures of this process (CPU, memory, files)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class RpcMetrics:
    """Counts the calls served, by method (`/luthier.dataset.v1.FileService/GetFile`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "luthier_rpc_requests_total",
            "Calls answered.",
            ["method", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "luthier_rpc_seconds",
            "Time from a call's arrival to its end.",
            ["method"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "luthier_rpc_in_flight", "Calls being served.", ["method"], registry=registry
        )

    def began(self, method: str) -> None:
        """Count a call that has arrived."""
        self._in_flight.labels(method).inc()

    def ended(self, method: str, code: str, seconds: float) -> None:
        """Count a call that has been answered with the canonical `code`."""
        self._in_flight.labels(method).dec()
        self._requests.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)
