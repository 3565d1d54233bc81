"""The figures of the inference service."""

from __future__ import annotations

from luthier.inference.v1.generation_pb2 import ChatFinish
from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """Counters and gauges, on the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tokens = Counter(
            "luthier_inference_tokens_total",
            "Tokens of answered prompts, and tokens written",
            ["kind"],
            registry=registry,
        )
        self.engines = Gauge(
            "luthier_inference_engines", "Engine processes that serve", registry=registry
        )
        self.restarts = Counter(
            "luthier_inference_engine_restarts_total",
            "Engine processes that died by themselves",
            registry=registry,
        )

    def answered(self, finish: ChatFinish) -> None:
        """Count a complete answer."""
        self.tokens.labels("prompt").inc(finish.prompt_tokens)
        self.tokens.labels("completion").inc(finish.completion_tokens)
