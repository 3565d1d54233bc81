"""The figures of the inference service."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator

from luthier.inference.v1.generation_pb2 import Finish
from luthier_common.names import id_of
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER = "other"
"""The label of what has none of its own."""

_LABELS_LIMIT = 100
_IDLE_SECONDS = 3600.0
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 5)


class BoundedLabels:
    """Gives names labels of their own, `limit` at a time; one that is idle for long makes room."""

    def __init__(self, *counters: Counter | Histogram, limit: int = _LABELS_LIMIT) -> None:
        """`counters` have the name as their first label; a label's series go with it."""
        self._counters = counters
        self._limit = limit
        self._used: OrderedDict[str, float] = OrderedDict()

    def label(self, name: str) -> str:
        """Return the name's label."""
        now = time.monotonic()
        if name not in self._used and len(self._used) >= self._limit:
            oldest = next(iter(self._used))
            if now - self._used[oldest] < _IDLE_SECONDS:
                return OTHER
            self._drop(oldest)
        self._used[name] = now
        self._used.move_to_end(name)
        return name

    def _drop(self, name: str) -> None:
        del self._used[name]
        for counter in self._counters:
            for labels in _children(counter, name):
                counter.remove(*labels)


def _children(counter: Counter | Histogram, name: str) -> Iterator[tuple[str, ...]]:
    names = counter._labelnames
    for metric in counter.collect():
        found = {tuple(sample.labels.get(each, "") for each in names) for sample in metric.samples}
        yield from (labels for labels in found if labels[0] == name)


class Metrics:
    """Counters, gauges and histograms, on the registry given.

    Base models are labelled by their id, so are adapters.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "luthier_inference_requests_total",
            "Calls to models, by the canonical code of their end",
            ["base_model", "method", "code"],
            registry=registry,
        )
        self._tokens = Counter(
            "luthier_inference_tokens_total",
            "Tokens of answered prompts, and tokens written",
            ["base_model", "kind"],
            registry=registry,
        )
        self._adapter_tokens = Counter(
            "luthier_inference_adapter_tokens_total",
            "The same by adapter; adapters beyond a hundred at a time are `other`",
            ["adapter", "kind"],
            registry=registry,
        )
        self._queue = Histogram(
            "luthier_inference_queue_seconds",
            "From a call's arrival to its engine, the engine's start included",
            ["base_model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "luthier_inference_first_token_seconds",
            "From a call's arrival to the first piece of its answer",
            ["base_model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._between = Histogram(
            "luthier_inference_inter_token_seconds",
            "Between the pieces of an answer",
            ["base_model"],
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self.engines = Gauge(
            "luthier_inference_engines", "Engines that take calls", registry=registry
        )
        self.restarts = Counter(
            "luthier_inference_engine_restarts_total",
            "Engines that ended by themselves",
            registry=registry,
        )
        self._bases = BoundedLabels(
            self._requests, self._tokens, self._queue, self._first, self._between
        )
        self._adapters = BoundedLabels(self._adapter_tokens)

    def requested(self, base_model: str, method: str, code: str) -> None:
        """Count a call that has ended with the canonical `code`."""
        self._requests.labels(self._base(base_model), method, code).inc()

    def queued(self, base_model: str, seconds: float) -> None:
        """Count a call that has found its engine."""
        self._queue.labels(self._base(base_model)).observe(seconds)

    def written(self, base_model: str, seconds: float, *, first: bool) -> None:
        """Count a piece of an answer; `seconds` since the call came, or the piece before."""
        histogram = self._first if first else self._between
        histogram.labels(self._base(base_model)).observe(seconds)

    def answered(self, base_model: str, adapter: str, finish: Finish) -> None:
        """Count the tokens of a complete answer; `adapter` is empty where the base gave it."""
        label = self._base(base_model)
        counts = {"prompt": finish.prompt_tokens, "completion": finish.completion_tokens}
        for kind, tokens in counts.items():
            self._tokens.labels(label, kind).inc(tokens)
            if adapter:
                name = self._adapters.label(id_of(adapter))
                self._adapter_tokens.labels(name, kind).inc(tokens)

    def _base(self, name: str) -> str:
        return self._bases.label(id_of(name))
