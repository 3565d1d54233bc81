"""The progress of the jobs at work, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.names import id_of, project_of
from luthier_common.records.collection import Collection
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_AT_WORK = frozenset({TrainingJob.RUNNING, TrainingJob.PAUSING, TrainingJob.CANCELLING})
_FIGURES = {
    "step": "Optimizer steps done",
    "total_steps": "Optimizer steps in all",
    "loss": "Mean training loss since the last report, in nats per learned token",
    "token_accuracy": "Share of learned tokens guessed right since the last report",
    "learning_rate": "Learning rate of the last step",
    "gradient_norm": "Norm of the gradients of the last step",
    "tokens_per_second": "Real (unpadded) tokens a second since the last report",
    "peak_memory_bytes": "Most memory that the run has held",
    "seconds_left": "Seconds left, as the run estimates",
}
"""Fields of `TrainingProgress`."""


def at_work(records: Collection[TrainingJob]) -> list[TrainingJob]:
    """Return the jobs that have a run."""
    return [job for job in records.values() if job.state in _AT_WORK]


class JobMetrics(Collector):
    """A collector over the records, so that a job that has ended leaves nothing behind.

    The figures of a job begin with its first step.
    """

    def __init__(self, records: Collection[TrainingJob]) -> None:
        self._records = records

    def collect(self) -> Iterator[Metric]:
        """Read the records (`Collector`)."""
        jobs = [
            job for job in self._records.values() if job.state in _AT_WORK and job.progress.step > 0
        ]
        for field, text in _FIGURES.items():
            name = f"luthier_trainer_job_{field}"
            family = GaugeMetricFamily(name, text, labels=("project", "job"))
            for job in jobs:
                labels = (project_of(job.name), id_of(job.name))
                family.add_metric(labels, getattr(job.progress, field))
            yield family

    def describe(self) -> list[Metric]:
        """Name nothing, so that registering reads nothing (`Collector`)."""
        return []
