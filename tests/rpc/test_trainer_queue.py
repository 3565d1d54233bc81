"""The queue as callers see it: places, expected starts, priorities, taking a device."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from luthier.trainer.v1 import training_job_service_pb2 as api
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_trainer.run_settings import EXIT_GAVE_BACK

from tests.support.tiny_model import save_base
from tests.support.trainer_house import ACME, House, open_house


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
async def house(tmp_path: Path, snapshot: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, snapshot) as opened:
        yield opened


async def waiting(house: House, priority: int = 0) -> TrainingJob:
    """Return a job that waits."""
    job = await house.create(house.draft(priority=priority))
    return await house.trainer.until(job.name, TrainingJob.QUEUED)


async def place_of(house: House, job: TrainingJob) -> int:
    return (await house.trainer.get(job.name)).queue_position


async def test_waiting_jobs_know_their_places(house: House) -> None:
    trainer = house.trainer
    running = await house.create()
    await trainer.stage.run()
    first, second = await waiting(house), await waiting(house)
    urgent = await waiting(house, priority=-1)  # less urgent than all others
    assert [await place_of(house, job) for job in (first, second, urgent)] == [1, 2, 3]
    assert await place_of(house, running) == 0
    listed = await trainer.jobs().ListTrainingJobs(api.ListTrainingJobsRequest(parent=ACME))
    places = {job.name: job.queue_position for job in listed.training_jobs}
    assert places == {running.name: 0, first.name: 1, second.name: 2, urgent.name: 3}
    await trainer.cancel(first.name)
    assert [await place_of(house, job) for job in (first, second, urgent)] == [0, 1, 2]


async def test_a_place_is_shown_and_never_stored(house: House) -> None:
    trainer = house.trainer
    await house.create()
    run = await trainer.stage.run()
    job = await waiting(house)
    before = await trainer.get(job.name)
    assert before.queue_position == 1
    await trainer.report(run, 5, seconds_left=100.0)  # moves the expected start
    after = await trainer.get(job.name)
    assert after.HasField("estimated_start_time")
    assert after.etag == before.etag
    await trainer.cancel(run.job.name)
    started = await trainer.until(job.name, TrainingJob.RUNNING)
    assert (started.queue_position, started.HasField("estimated_start_time")) == (0, False)


async def test_the_next_job_starts_when_the_run_says_it_is_done(house: House) -> None:
    trainer = house.trainer
    await house.create()
    run = await trainer.stage.run()
    first, second = await waiting(house), await waiting(house)
    assert not (await trainer.get(first.name)).HasField("estimated_start_time")
    await trainer.report(run, 5, seconds_left=500.0)
    estimated = (await trainer.get(first.name)).estimated_start_time.ToSeconds()
    assert abs(estimated - (time.time() + 500)) < 60
    # Nobody knows how long the first one takes: no run of its kind has been measured.
    assert not (await trainer.get(second.name)).HasField("estimated_start_time")


async def test_a_higher_priority_starts_first(house: House) -> None:
    trainer = house.trainer
    await house.create(house.draft(priority=9))
    run = await trainer.stage.run(1)
    low, high = await waiting(house, 1), await waiting(house, 2)
    await trainer.cancel(run.job.name)
    assert (await trainer.stage.run(2)).job.name == high.name
    await trainer.cancel(high.name)
    assert (await trainer.stage.run(3)).job.name == low.name


async def test_a_higher_priority_takes_the_device_and_gives_it_back(house: House) -> None:
    trainer = house.trainer
    low = await house.create(house.draft(priority=-5))
    victim = await trainer.stage.run(1)

    async def save() -> int:
        await trainer.save(victim, 6)
        return EXIT_GAVE_BACK

    victim.on_stop = save
    high = await house.create(house.draft(priority=5))
    taken = await trainer.stage.run(2)
    assert taken.job.name == high.name
    assert victim.stopped
    displaced = await trainer.until(low.name, TrainingJob.QUEUED)
    assert (displaced.resume_state.step, displaced.fault_count) == (6, 0)
    assert (await place_of(house, low)) == 1
    told = (
        "The run saved its state at step 6 and gave the device to a job of higher priority; "
        "it will go on from step 6"
    )
    assert told in await trainer.messages(low.name)
    await trainer.cancel(high.name)
    again = await trainer.stage.run(3)
    assert (again.job.name, again.job.resume_state.step) == (low.name, 6)


async def test_the_same_priority_takes_nothing(house: House) -> None:
    trainer = house.trainer
    await house.create(house.draft(priority=5))
    run = await trainer.stage.run()
    other = await waiting(house, 5)
    await trainer.report(run, 1)
    assert not run.stopped
    assert await place_of(house, other) == 1


async def test_two_places_run_two_jobs(tmp_path: Path, snapshot: Path) -> None:
    async with open_house(tmp_path, snapshot, max_runs=2) as house:
        names = {(await house.create()).name for _ in range(2)}
        await house.trainer.stage.run(2)
        third = await house.create()
        assert {run.job.name for run in house.trainer.stage.runs} == names
        await house.trainer.until(third.name, TrainingJob.QUEUED)
        assert len(house.trainer.stage.runs) == 2
