"""How the controller sees runs through, whatever happens to them; the runs are played."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.adapter_service_pb2 import GetAdapterRequest
from luthier.trainer.v1 import training_job_service_pb2 as api
from luthier.trainer.v1.run_service_pb2 import CompleteRunRequest, ReportRunRequest
from luthier.trainer.v1.run_service_pb2_grpc import RunServiceStub
from luthier.trainer.v1.training_job_pb2 import (
    TrainingJob,
    TrainingJobEvent,
)
from luthier_common.errors import Aborted, FailedPrecondition, InvalidArgument, PermissionDenied
from luthier_common.identity import Role
from luthier_common.rpc.status import to_status

from tests.support.eventually import eventually
from tests.support.grpc_server import caller
from tests.support.tiny_model import save_adapter, save_base
from tests.support.trainer_house import FIGURES, House, open_house
from tests.support.trainer_service import Stage


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


async def test_a_committed_result_becomes_a_served_adapter_and_a_file_of_figures(
    house: House, adapter: Path
) -> None:
    trainer = house.trainer
    job = await house.create(house.draft(suffix="care"))
    run = await trainer.stage.run()
    assert run.base.digest == house.base.digest
    await trainer.complete(run, await house.result(adapter))
    done = await trainer.until(job.name, TrainingJob.SUCCEEDED)
    assert done.HasField("end_time")
    published = await house.inference.adapters().GetAdapter(GetAdapterRequest(name=done.adapter))
    assert published.training_job == job.name
    assert published.dataset_digest == house.rows.sha256
    assert (published.suffix, published.metrics["train_loss"]) == ("care", 0.5)
    assert published.configuration["quantization"] == "nf4, double"
    (figures,) = done.result_files
    assert house.dataset.files[figures].purpose == File.FINE_TUNE_RESULTS
    assert await house.dataset.content(figures) == FIGURES
    await eventually(lambda: not run.folder.exists())
    assert (await trainer.messages(job.name))[-1] == "The job has successfully completed"


async def test_reports_become_progress_and_about_a_hundred_metrics_events(house: House) -> None:
    job = await house.create()
    run = await house.trainer.stage.run()
    for step in range(1, 401):
        assert not (await house.trainer.report(run, step, total=400)).stop
    progress = (await house.trainer.get(job.name)).progress
    assert (progress.step, progress.total_steps) == (400, 400)
    charted = [e for e in await house.trainer.events(job.name) if e.HasField("metrics")]
    assert len(charted) == 100
    assert charted[-1].metrics.step == 400
    assert charted[-1].message == "Step 400/400: training loss=0.00"


async def test_a_run_that_dies_is_tried_again_and_a_third_time_fails_the_job(
    house: House,
) -> None:
    trainer = house.trainer
    job = await house.create()
    for number in (1, 2, 3):
        run = await trainer.stage.run(number)
        assert run.job.epoch == number
        run.exit(-9)
    failed = await trainer.until(job.name, TrainingJob.FAILED)
    assert failed.fault_count == 3
    assert "3 times" in failed.error.message
    assert "signal 9" in failed.error.message
    events = await trainer.events(job.name)
    warnings = [event.message for event in events if event.level == TrainingJobEvent.WARN]
    assert warnings == 2 * ["The run ended (signal 9); it will start over"]
    assert events[-1].level == TrainingJobEvent.ERROR


async def test_a_run_of_an_earlier_epoch_is_not_heard(house: House, adapter: Path) -> None:
    trainer = house.trainer
    job = await house.create()
    first = await trainer.stage.run(1)
    first.exit(1)
    second = await trainer.stage.run(2)
    with pytest.raises(Aborted):
        await trainer.report(first, 5)
    with pytest.raises(Aborted):
        await trainer.complete(first, await house.result(adapter))
    assert not (await trainer.report(second, 6)).stop
    now = await trainer.get(job.name)
    assert (now.progress.step, now.HasField("result")) == (6, False)


async def test_a_run_that_says_it_cannot_be_done_fails_the_job_at_once(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run()
    error = InvalidArgument("no row can be learned", reason="NO_ROWS_TO_LEARN")
    await trainer.run_service().CompleteRun(
        CompleteRunRequest(training_job=job.name, epoch=1, error=to_status(error))
    )
    run.exit(65)
    failed = await trainer.until(job.name, TrainingJob.FAILED)
    assert failed.error.message == "no row can be learned"
    assert failed.fault_count == 0
    await eventually(lambda: not run.folder.exists())


async def test_cancelling_a_running_job_stops_its_run(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run()
    request = api.CancelTrainingJobRequest(name=job.name)
    asked = await trainer.jobs().CancelTrainingJob(request)
    assert asked.state == TrainingJob.CANCELLING
    again = await trainer.jobs().CancelTrainingJob(request)
    assert again.state in (TrainingJob.CANCELLING, TrainingJob.CANCELLED)
    await trainer.until(job.name, TrainingJob.CANCELLED)
    assert run.stopped
    assert len(trainer.stage.runs) == 1


async def test_a_run_of_a_cancelled_job_is_told_to_stop(house: House) -> None:
    trainer = house.trainer
    job = await house.create()
    run = await trainer.stage.run()
    await trainer.jobs().CancelTrainingJob(api.CancelTrainingJobRequest(name=job.name))
    assert (await trainer.report(run, 3)).stop


async def test_a_tuned_job_can_no_longer_be_cancelled(house: House, adapter: Path) -> None:
    trainer = house.trainer
    job = await house.create()
    await trainer.complete(await trainer.stage.run(), await house.result(adapter))
    with pytest.raises(FailedPrecondition):
        await trainer.jobs().CancelTrainingJob(api.CancelTrainingJobRequest(name=job.name))


async def test_jobs_wait_for_the_one_slot_and_start_oldest_first(house: House) -> None:
    trainer = house.trainer
    names = [(await house.create()).name for _ in range(3)]
    for number, name in enumerate(names, start=1):
        run = await trainer.stage.run(number)
        assert run.job.name == name
        assert len(trainer.stage.runs) == number
        await trainer.jobs().CancelTrainingJob(api.CancelTrainingJobRequest(name=name))


async def test_a_silent_run_is_stopped_and_counted_as_a_fault(
    tmp_path: Path, snapshot: Path
) -> None:
    async with open_house(tmp_path, snapshot, hang_seconds=1.0) as house:
        job = await house.create()
        run = await house.trainer.stage.run(1)
        await house.trainer.stage.run(2)
        assert run.stopped
        assert any("no word for 1 seconds" in m for m in await house.trainer.messages(job.name))


async def test_an_adapter_that_cannot_be_published_fails_the_job_with_the_reason(
    house: House, adapter: Path, tmp_path: Path
) -> None:
    trainer = house.trainer
    job = await house.create()
    result = await house.result(adapter)
    house.inference.flip_byte(result.model_files[1].sha256)
    await trainer.complete(await trainer.stage.run(), result)
    failed = await trainer.until(job.name, TrainingJob.FAILED)
    assert "adapter_model.safetensors" in failed.error.message


async def test_a_job_that_runs_when_the_trainer_stops_runs_again_without_a_fault(
    tmp_path: Path, snapshot: Path, adapter: Path
) -> None:
    stage = Stage()
    async with open_house(tmp_path, snapshot) as house:
        job = await house.create()
        await house.trainer.stage.run()
        await house.trainer.lifespan.__aexit__(None, None, None)
        async with house.restarted(tmp_path, stage) as trainer:
            run = await stage.run()
            assert (run.job.name, run.job.epoch) == (job.name, 2)
            assert (await trainer.get(job.name)).fault_count == 0
            await trainer.complete(run, await house.result(adapter))
            await trainer.until(job.name, TrainingJob.SUCCEEDED)


async def test_a_result_committed_before_the_trainer_stops_is_published_by_its_successor(
    tmp_path: Path, snapshot: Path, adapter: Path
) -> None:
    stage = Stage()
    async with open_house(tmp_path, snapshot) as house:
        job = await house.create()
        await house.trainer.stage.run()
        request = CompleteRunRequest(
            training_job=job.name, epoch=1, result=await house.result(adapter)
        )
        await house.trainer.run_service().CompleteRun(request)
        await house.trainer.lifespan.__aexit__(None, None, None)
        async with house.restarted(tmp_path, stage) as trainer:
            await trainer.until(job.name, TrainingJob.SUCCEEDED)
    assert not stage.runs


async def test_a_run_that_cannot_be_launched_is_a_fault_with_its_cause(house: House) -> None:
    trainer = house.trainer
    trainer.stage.refusals = [OSError(errno.ENOSPC, "No space left on device")]
    job = await house.create()
    await trainer.stage.run(1)
    told = "The run ended (it could not be launched: No space left on device); it will start over"
    assert told in await trainer.messages(job.name)
    assert (await trainer.get(job.name)).fault_count == 1


async def test_only_services_may_speak_as_runs(house: House) -> None:
    job = await house.create()
    run = await house.trainer.stage.run()
    stub = RunServiceStub(house.trainer.channel.with_identity(caller("acme", Role.ADMIN)))
    with pytest.raises(PermissionDenied):
        await stub.ReportRun(ReportRunRequest(training_job=job.name, epoch=run.job.epoch))
