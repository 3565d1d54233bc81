"""The figures of the trainer."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """Counters and gauges, on the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = Counter(
            "luthier_trainer_jobs_total", "Jobs ended, by state", ["state"], registry=registry
        )
        self.runs = Counter(
            "luthier_trainer_runs_total", "Runs ended, by outcome", ["outcome"], registry=registry
        )
        self.running = Gauge("luthier_trainer_running", "Runs at work", registry=registry)
        self.waiting = Gauge(
            "luthier_trainer_waiting", "Jobs that wait for a device", registry=registry
        )
