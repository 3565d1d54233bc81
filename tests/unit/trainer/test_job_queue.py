"""What the scheduler is told of the records, and what callers are shown of its plans."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from luthier.trainer.v1.preflight_pb2 import (
    ConfigurationEstimate,
    DeviceFit,
    Preflight,
)
from luthier.trainer.v1.training_job_pb2 import (
    ResumeState,
    TrainingJob,
    TrainingProgress,
    TrainingResult,
)
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_trainer import jobs
from luthier_trainer.job_queue import JobQueue
from luthier_trainer.scheduling import Capacity

NOW = 10_000.0
GPU = "NVIDIA A100-SXM4-80GB"


@pytest.fixture
async def records() -> AsyncIterator[Collection[TrainingJob]]:
    async with Collection(MemoryRecords(), TrainingJob, jobs.PATTERN) as opened:
        yield opened


def queue(records: Collection[TrainingJob], memory: int | None = None) -> JobQueue:
    return JobQueue(records, Capacity(1, memory), device_class=GPU, clock=lambda: NOW)


async def add(
    records: Collection[TrainingJob],
    name: str,
    state: Any = TrainingJob.QUEUED,
    seconds: float | None = None,
    memory: int = 0,
    project: str = "acme",
    **fields: Any,
) -> TrainingJob:
    devices = [
        DeviceFit(device_class="cpu", seconds=1e6),
        DeviceFit(device_class=GPU, seconds=seconds),
    ]
    chosen = ConfigurationEstimate(devices=devices)
    job = TrainingJob(
        state=state, preflight=Preflight(chosen=chosen, least_memory_bytes=memory), **fields
    )
    return await records.create(f"projects/{project}/trainingJobs/{name}", job)


def shown(found: JobQueue, job: TrainingJob) -> tuple[int, float | None]:
    copy = TrainingJob()
    copy.CopyFrom(job)
    found.show(copy)
    known = copy.HasField("estimated_start_time")
    return copy.queue_position, copy.estimated_start_time.ToSeconds() if known else None


async def test_times_are_those_of_this_machines_device_class(
    records: Collection[TrainingJob],
) -> None:
    await add(records, "a", TrainingJob.RUNNING, seconds=100.0)
    b = await add(records, "b", seconds=50.0)
    c = await add(records, "c")
    d = await add(records, "d", seconds=1.0)
    found = queue(records)
    places = [shown(found, job) for job in (b, c, d)]
    assert places == [(1, NOW + 100), (2, NOW + 150), (3, None)]


async def test_what_a_run_reports_goes_before_what_was_estimated(
    records: Collection[TrainingJob],
) -> None:
    progress = TrainingProgress(step=5, seconds_left=7.0)
    await add(records, "a", TrainingJob.RUNNING, seconds=100.0, progress=progress)
    paused_once = TrainingProgress(step=9, seconds_left=3.0)
    state = ResumeState(step=9, epoch=1)
    b = await add(records, "b", seconds=50.0, progress=paused_once, resume_state=state)
    c = await add(records, "c")
    assert shown(queue(records), b) == (1, NOW + 7)
    assert shown(queue(records), c) == (2, NOW + 10)


async def test_a_run_that_is_pausing_or_done_holds_its_place_no_longer(
    records: Collection[TrainingJob],
) -> None:
    await add(records, "a", TrainingJob.PAUSING, seconds=100.0)
    b = await add(records, "b")
    assert shown(queue(records), b) == (1, NOW)


async def test_only_what_waits_has_a_place(records: Collection[TrainingJob]) -> None:
    big = await add(records, "big", memory=100)
    found = queue(records, memory=50)
    assert shown(found, big) == (0, None)  # it would never start here
    for state in (TrainingJob.PAUSED, TrainingJob.VALIDATING, TrainingJob.SUCCEEDED):
        job = await add(records, f"job-{state}", state)
        assert shown(found, job) == (0, None)


async def test_a_place_is_held_until_the_run_is_gone_whatever_the_record_says(
    records: Collection[TrainingJob],
) -> None:
    done = await add(records, "done", TrainingJob.RUNNING, result=TrainingResult())
    await add(records, "next")
    found = queue(records)
    held = found.plan(records.values(), holding={done.name})
    assert (held.start, held.preempt) == ((), ())
    assert found.plan(records.values(), holding=set()).start == ("projects/acme/trainingJobs/next",)


async def test_a_job_whose_run_is_gone_is_never_asked_for_its_place(
    records: Collection[TrainingJob],
) -> None:
    lost = await add(records, "lost", TrainingJob.RUNNING)
    await add(records, "urgent", priority=9)
    found = queue(records)
    assert found.plan(records.values(), holding=set()).preempt == ()
    assert found.plan(records.values(), holding={lost.name}).preempt == (lost.name,)
    asked = found.plan(records.values(), holding={lost.name}, yielding={lost.name})
    assert asked.preempt == ()


async def test_the_project_that_had_the_device_last_comes_last(
    records: Collection[TrainingJob],
) -> None:
    ended = await add(records, "ended", TrainingJob.SUCCEEDED)

    def had_a_run(job: TrainingJob) -> TrainingJob:
        job.start_time.GetCurrentTime()
        job.end_time.GetCurrentTime()
        return job

    await records.update(ended.name, had_a_run)
    second = await add(records, "older")
    first = await add(records, "newer", project="other")

    def as_old_as(seconds: int) -> Any:
        def change(job: TrainingJob) -> TrainingJob:
            job.create_time.FromSeconds(seconds)
            return job

        return change

    await records.update(second.name, as_old_as(1))
    await records.update(first.name, as_old_as(2))
    assert shown(queue(records), first)[0] == 1
    assert shown(queue(records), second)[0] == 2
