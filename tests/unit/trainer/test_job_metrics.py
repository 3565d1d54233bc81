"""The progress of jobs at work, as Prometheus sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingProgress
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_trainer.job_metrics import JobMetrics
from prometheus_client import CollectorRegistry, generate_latest

PATTERN = "projects/{project}/trainingJobs/{training_job}"
NAME = "projects/acme/trainingJobs/ftjob-1"
LABELS = {"project": "acme", "job": "ftjob-1"}
PROGRESS = TrainingProgress(
    step=5,
    total_steps=40,
    loss=0.5,
    token_accuracy=0.75,
    learning_rate=0.0002,
    gradient_norm=1.5,
    tokens_per_second=1234.5,
    seconds_left=70,
    peak_memory_bytes=1 << 30,
)


@pytest.fixture
async def records() -> AsyncIterator[Collection[TrainingJob]]:
    async with Collection(MemoryRecords(), TrainingJob, PATTERN) as collection:
        yield collection


@pytest.fixture
def registry(records: Collection[TrainingJob]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(JobMetrics(records))
    return registry


async def test_every_figure_of_a_running_job(
    records: Collection[TrainingJob], registry: CollectorRegistry
) -> None:
    job = TrainingJob(state=TrainingJob.RUNNING, progress=PROGRESS)
    await records.create(NAME, job)
    fields = [field.name for field in TrainingProgress.DESCRIPTOR.fields if field.name != "epoch"]
    for field in fields:
        value = registry.get_sample_value(f"luthier_trainer_job_{field}", LABELS)
        assert value == getattr(PROGRESS, field), field


async def test_before_its_first_step_a_job_has_no_figures(
    records: Collection[TrainingJob], registry: CollectorRegistry
) -> None:
    progress = TrainingProgress(total_steps=40)
    await records.create(NAME, TrainingJob(state=TrainingJob.RUNNING, progress=progress))
    assert b"ftjob-1" not in generate_latest(registry)


@pytest.mark.parametrize(
    "state", [TrainingJob.QUEUED, TrainingJob.PAUSED, TrainingJob.SUCCEEDED, TrainingJob.FAILED]
)
async def test_a_job_that_has_stopped_leaves_nothing_behind(
    records: Collection[TrainingJob], registry: CollectorRegistry, state: TrainingJob.State
) -> None:
    await records.create(NAME, TrainingJob(state=TrainingJob.RUNNING, progress=PROGRESS))
    assert b"ftjob-1" in generate_latest(registry)

    def end(job: TrainingJob) -> TrainingJob:
        job.state = state
        return job

    await records.update(NAME, end)
    assert b"ftjob-1" not in generate_latest(registry)
