"""Figures of the REST side; the gRPC side has those of every service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

# Seconds: from a record read to a long upload or generation.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class RestMetrics:
    """Counts REST requests by route template, never by path: paths hold ids."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "luthier_gateway_requests_total",
            "REST requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "luthier_gateway_request_seconds",
            "Time from a REST request's arrival to the end of its answer.",
            ["route", "method"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "luthier_gateway_tokens_total",
            "Tokens read (prompt) and written (completion) by finished answers.",
            ["route", "kind"],
            registry=registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def generated(self, route: str, usage: Mapping[str, Any]) -> None:
        """Count the tokens of a finished answer, as its `usage` tells them."""
        self._tokens.labels(route, "prompt").inc(usage["prompt_tokens"])
        self._tokens.labels(route, "completion").inc(usage.get("completion_tokens", 0))


def route_of(scope: Mapping[str, Any]) -> str:
    """Return the template of a request's route, once it has been found."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
