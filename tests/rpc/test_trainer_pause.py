"""Pausing, resuming, giving back: what a job's run hears and what becomes of the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from luthier.inference.v1.adapter_service_pb2 import GetAdapterRequest
from luthier.trainer.v1.run_service_pb2 import (
    CommitResumeStateRequest,
    CompleteRunRequest,
    PublishCheckpointRequest,
)
from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingJobEvent, TrainingResult
from luthier_common.errors import Aborted, FailedPrecondition, InvalidArgument
from luthier_common.objects.directory import DirectoryObjects
from luthier_trainer.resume_states import state_blobs
from luthier_trainer.run_settings import EXIT_GAVE_BACK

from tests.support.eventually import eventually
from tests.support.tiny_model import save_adapter, save_base
from tests.support.trainer_house import House, open_house
from tests.support.trainer_service import PlayedRun, Stage, Trainer


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, snapshot: Path) -> Path:
    folder = save_adapter(tmp_path_factory.mktemp("adapter"), snapshot, seed=1)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


@pytest.fixture
async def house(tmp_path: Path, snapshot: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, snapshot) as opened:
        yield opened


def saving(trainer: Trainer, run: PlayedRun, step: int) -> None:
    """Have a run save its state when it is told to stop."""

    async def save() -> int:
        await trainer.save(run, step)
        return EXIT_GAVE_BACK

    run.on_stop = save


async def test_a_paused_job_keeps_its_step_and_goes_on_from_it(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    first = await trainer.stage.run(1)
    assert not (await trainer.report(first, 7)).pause
    assert (await trainer.pause(job.name)).state == TrainingJob.PAUSING
    told = await trainer.report(first, 8)
    assert (told.pause, told.stop) == (True, False)
    await trainer.give_back(first, 8)
    paused = await trainer.until(job.name, TrainingJob.PAUSED)
    assert (paused.resume_state.step, paused.resume_state.epoch) == (8, 1)
    assert (paused.progress.step, paused.fault_count) == (8, 0)
    assert not first.stopped  # it was given the time that it took
    assert (await trainer.resume(job.name)).state == TrainingJob.QUEUED
    second = await trainer.stage.run(2)
    assert (second.job.epoch, second.job.resume_state.step) == (2, 8)
    await trainer.report(second, 0)  # it loads the model
    assert (await trainer.get(job.name)).progress.step == 8, "what was done stays visible"
    await trainer.report(second, 9)
    assert {
        "The job is asked to save its state and pause",
        "The run saved its state at step 8 and gave the device back; "
        "the job is paused and will go on from step 8",
        "The job was resumed and waits for a device",
        "Fine-tuning job goes on",
    } <= set(await trainer.messages(job.name))


async def test_a_paused_job_holds_no_device(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    first = await trainer.stage.run(1)
    await trainer.pause(job.name)
    other = await house.create()
    await trainer.give_back(first, 1)
    assert (await trainer.stage.run(2)).job.name == other.name


async def test_a_waiting_job_is_paused_at_once_and_told_once(house: House) -> None:
    trainer = house.trainer
    await house.create()  # takes the one place
    waiting = await house.create()
    await trainer.until(waiting.name, TrainingJob.QUEUED)
    paused = await trainer.pause(waiting.name)
    assert (paused.state, paused.queue_position) == (TrainingJob.PAUSED, 0)
    assert (await trainer.pause(waiting.name)).etag == paused.etag
    assert (await trainer.messages(waiting.name)).count("The job was paused") == 1


async def test_a_run_that_crashes_while_pausing_leaves_a_paused_job(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run()
    await trainer.save(run, 5)
    await trainer.pause(job.name)
    run.exit(-11)
    paused = await trainer.until(job.name, TrainingJob.PAUSED)
    assert paused.fault_count == 0
    last = (await trainer.events(job.name))[-1]
    assert last.message == "The run ended (signal 11); the job is paused and will go on from step 5"
    assert last.level == TrainingJobEvent.WARN


async def test_a_result_committed_while_pausing_wins(house: House, adapter: Path) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run()
    await trainer.pause(job.name)
    await trainer.complete(run, await house.result(adapter))
    done = await trainer.until(job.name, TrainingJob.SUCCEEDED)
    assert done.adapter
    with pytest.raises(FailedPrecondition) as caught:
        await trainer.resume(job.name)
    assert caught.value.reason == "JOB_ENDED"


async def test_a_pausing_job_can_be_cancelled(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run()
    await trainer.pause(job.name)
    assert (await trainer.cancel(job.name)).state == TrainingJob.CANCELLING
    assert (await trainer.report(run, 2)).stop
    await trainer.until(job.name, TrainingJob.CANCELLED)


async def test_a_cancelled_paused_job_leaves_nothing_in_the_store_or_on_the_disk(
    house: House, tmp_path: Path
) -> None:
    trainer = house.trainer
    store = DirectoryObjects(tmp_path / "objects")
    job = await house.create()
    run = await trainer.stage.run()
    blobs = state_blobs(store, job.name, 1)
    state = await blobs.put_bytes("acme", b"weights and all")
    await trainer.pause(job.name)
    await trainer.give_back(run, 3)
    await trainer.until(job.name, TrainingJob.PAUSED)
    assert await blobs.exists("acme", state.sha256)
    assert run.folder.exists()
    assert (await trainer.cancel(job.name)).state == TrainingJob.CANCELLED

    async def gone() -> bool:
        return not run.folder.exists() and not await blobs.exists("acme", state.sha256)

    await eventually(gone)


async def test_a_run_that_gives_back_of_its_own_accord_is_launched_again(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    await trainer.give_back(await trainer.stage.run(1), 4)
    again = await trainer.stage.run(2)
    assert (again.job.fault_count, again.job.resume_state.step) == (0, 4)
    told = "The run saved its state at step 4 and gave the device back; it will go on from step 4"
    assert told in await trainer.messages(job.name)


async def test_the_third_fault_fails_a_job_only_when_it_got_no_further(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    for number in range(1, 5):
        run = await trainer.stage.run(number)
        await trainer.save(run, number * 10)
        run.exit(1)
    for number in range(5, 7):
        (await trainer.stage.run(number)).exit(1)
    failed = await trainer.until(job.name, TrainingJob.FAILED)
    assert (failed.fault_count, failed.epoch) == (3, 6)


async def test_a_resume_state_is_committed_once_and_never_goes_back(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run()
    await trainer.save(run, 10)
    etag = (await trainer.get(job.name)).etag
    await trainer.save(run, 10)
    await trainer.save(run, 9)
    now = await trainer.get(job.name)
    assert (now.etag, now.resume_state.step) == (etag, 10)
    assert now.resume_state.HasField("create_time")
    request = CommitResumeStateRequest(training_job=job.name, epoch=1, step=11)
    with pytest.raises(InvalidArgument) as caught:
        await trainer.run_service().CommitResumeState(request)
    assert caught.value.field == "files"


async def test_a_zombie_commits_nothing(house: House, adapter: Path) -> None:
    """A run that was frozen past its lease, and goes on beside its successor."""
    trainer = house.trainer
    job = await house.create()
    zombie = await trainer.stage.run(1)
    await trainer.save(zombie, 5)
    zombie.exit(-9)
    await trainer.stage.run(2)
    before = await trainer.get(job.name)
    result = await house.result(adapter)
    checkpoint = PublishCheckpointRequest(training_job=job.name, epoch=1, step=6)
    for attempt in (
        trainer.save(zombie, 6),
        trainer.complete(zombie, result),
        trainer.run_service().PublishCheckpoint(checkpoint),
    ):
        with pytest.raises(Aborted) as caught:
            await attempt
        assert caught.value.reason == "STALE_EPOCH"
    assert await trainer.get(job.name) == before


async def test_a_run_whose_job_waits_again_is_not_heard(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run(1)
    await trainer.pause(job.name)
    await trainer.give_back(run, 2)
    await trainer.until(job.name, TrainingJob.PAUSED)  # its epoch is still the run's
    assert (await trainer.report(run, 3)).stop
    with pytest.raises(Aborted):
        await trainer.save(run, 3)
    request = CompleteRunRequest(training_job=job.name, epoch=1, result=TrainingResult())
    with pytest.raises(Aborted):
        await trainer.run_service().CompleteRun(request)
    assert (await trainer.get(job.name)).resume_state.step == 2


async def test_a_checkpoint_is_published_once_and_listed_with_the_job(
    house: House, adapter: Path
) -> None:
    trainer = house.trainer
    job = await house.create()
    await trainer.stage.run()
    files = (await house.result(adapter)).model_files
    request = PublishCheckpointRequest(
        training_job=job.name, epoch=1, step=3, files=files, metrics={"valid_loss": 0.5}
    )
    for _ in range(2):
        await trainer.run_service().PublishCheckpoint(request)
    (checkpoint,) = (await trainer.get(job.name)).checkpoints
    assert (checkpoint.step, checkpoint.metrics["valid_loss"]) == (3, 0.5)
    named = GetAdapterRequest(name=checkpoint.adapter)
    assert (await house.inference.adapters().GetAdapter(named)).training_job == job.name
    assert (await trainer.messages(job.name)).count("Checkpoint created at step 3") == 1


async def test_a_trainer_that_stops_lets_its_runs_save(tmp_path: Path, snapshot: Path) -> None:
    stage = Stage()
    async with open_house(tmp_path, snapshot) as house:
        job = await house.create()
        run = await house.trainer.stage.run()
        saving(house.trainer, run, 12)
        await house.trainer.lifespan.__aexit__(None, None, None)
        assert run.stopped
        async with house.restarted(tmp_path, stage) as trainer:
            again = await stage.run()
            assert (again.job.resume_state.step, again.job.fault_count) == (12, 0)
            told = "The run saved its state at step 12 and gave the device back"
            assert any(m.startswith(told) for m in await trainer.messages(job.name))


async def test_a_run_that_does_not_save_in_time_is_killed_without_a_fault(
    tmp_path: Path, snapshot: Path
) -> None:
    stage = Stage()
    async with open_house(tmp_path, snapshot, stop_seconds=0.2) as house:
        await house.create()
        run = await house.trainer.stage.run()

        async def dawdle() -> int:
            await asyncio.Event().wait()
            return 0

        run.on_stop = dawdle
        await house.trainer.lifespan.__aexit__(None, None, None)
        assert run.code == -9
        async with house.restarted(tmp_path, stage):
            assert (await stage.run()).job.fault_count == 0


async def test_a_job_that_was_pausing_when_the_trainer_died_is_paused(
    tmp_path: Path, snapshot: Path
) -> None:
    stage = Stage()
    async with open_house(tmp_path, snapshot) as house:
        job = await house.create()
        await house.trainer.stage.run()
        await house.trainer.pause(job.name)
        await house.trainer.lifespan.__aexit__(None, None, None)
        async with house.restarted(tmp_path, stage) as trainer:
            await trainer.until(job.name, TrainingJob.PAUSED)
    assert not stage.runs
