"""What a run tells the trainer, and what it does when the trainer does not hear it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.empty_pb2 import Empty
from luthier.trainer.v1 import run_service_pb2 as api
from luthier.trainer.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    RunServiceStub,
    add_RunServiceServicer_to_server,
)
from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingProgress, TrainingResult
from luthier_common.errors import (
    Aborted,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    PlatformError,
    Unavailable,
    not_found,
)
from luthier_common.identity import service_identity
from luthier_trainer.run import report
from luthier_trainer.run.keeper import Keeper
from luthier_trainer.run.report import Board, Reporter

from tests.support.eventually import eventually
from tests.support.grpc_server import serving

JOB = "projects/acme/trainingJobs/ftjob-1"


class Ear(RunServiceServicer):
    """The trainer's side; fails as often as told."""

    def __init__(self) -> None:
        self.reports: list[api.ReportRunRequest] = []
        self.completions: list[api.CompleteRunRequest] = []
        self.stop = False
        self.pause = False
        self.deaf: list[PlatformError] = []
        self.busy: list[PlatformError] = []

    async def ReportRun(self, request: api.ReportRunRequest, context: Any) -> api.ReportRunResponse:
        if self.deaf:
            raise self.deaf.pop(0)
        self.reports.append(request)
        return api.ReportRunResponse(stop=self.stop, pause=self.pause)

    async def CommitResumeState(self, request: api.CommitResumeStateRequest, context: Any) -> Empty:
        raise AssertionError("nothing here saves a state")

    async def PublishCheckpoint(self, request: api.PublishCheckpointRequest, context: Any) -> Empty:
        raise AssertionError("nothing here publishes a checkpoint")

    async def CompleteRun(self, request: api.CompleteRunRequest, context: Any) -> Empty:
        if self.busy:
            raise self.busy.pop(0)
        self.completions.append(request)
        return Empty()


class WatchedBoard(Board):
    """Counts how often it was looked at."""

    looks = 0

    @property
    def beats(self) -> int:
        """Signs of life."""
        self.looks += 1
        return self._beats

    @beats.setter
    def beats(self, value: int) -> None:
        self._beats = value


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def reporter(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reporter]:
    monkeypatch.setattr(report, "_REPORT_SECONDS", 0.01)
    service = api.DESCRIPTOR.services_by_name["RunService"]
    async with serving((ear, add_RunServiceServicer_to_server, service)) as server:
        channel = server.channel(service_identity("acme", "run"))
        yield Reporter(RunServiceStub(channel), JOB, 3, WatchedBoard())


def board_of(reporter: Reporter) -> WatchedBoard:
    board = reporter._board
    assert isinstance(board, WatchedBoard)
    return board


async def test_a_run_whose_training_hangs_falls_silent(ear: Ear, reporter: Reporter) -> None:
    board = board_of(reporter)
    board.progress = TrainingProgress(step=5, total_steps=9)
    running = asyncio.create_task(reporter.run())
    await eventually(lambda: board.looks > 50)
    assert len(ear.reports) == 1
    board.beats += 1
    await eventually(lambda: len(ear.reports) == 2)
    running.cancel()


async def test_before_its_first_step_a_run_is_heard_of_all_the_time(
    ear: Ear, reporter: Reporter
) -> None:
    running = asyncio.create_task(reporter.run())
    await eventually(lambda: len(ear.reports) > 5)
    running.cancel()


async def test_a_start_that_takes_too_long_without_a_sign_falls_silent(
    ear: Ear, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_START_SECONDS", 0.2)
    board = board_of(reporter)
    running = asyncio.create_task(reporter.run())
    await eventually(lambda: len(ear.reports) > 5)
    await asyncio.sleep(0.3)
    heard = len(ear.reports)
    looks = board.looks
    await eventually(lambda: board.looks > looks + 20)
    assert len(ear.reports) == heard
    board.beats += 1
    await eventually(lambda: len(ear.reports) > heard)
    running.cancel()


async def test_what_a_failed_report_would_have_said_the_next_one_says(
    ear: Ear, reporter: Reporter
) -> None:
    ear.deaf = [Unavailable("away", reason="AWAY")]
    board_of(reporter).say("one")
    running = asyncio.create_task(reporter.run())
    await eventually(lambda: bool(ear.reports))
    running.cancel()
    assert list(ear.reports[0].messages) == ["one"]
    assert (ear.reports[0].training_job, ear.reports[0].epoch) == (JOB, 3)


async def test_a_run_of_an_earlier_epoch_stops(ear: Ear, reporter: Reporter) -> None:
    ear.deaf = [Aborted("stale", reason="STALE_EPOCH")]
    await asyncio.wait_for(reporter.run(), 10)
    assert board_of(reporter).stop.is_set()


async def test_a_record_that_many_write_is_no_end(ear: Ear, reporter: Reporter) -> None:
    ear.deaf = [Aborted("busy", reason="CONTENDED")]
    running = asyncio.create_task(reporter.run())
    await eventually(lambda: bool(ear.reports))
    assert not board_of(reporter).stop.is_set()
    running.cancel()
    ear.busy = [Aborted("busy", reason="CONTENDED")]
    await reporter.succeed(TrainingResult(trained_tokens=7))
    assert len(ear.completions) == 1


async def test_a_state_saved_anew_while_it_is_stored_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the last one, which is saved when its step is done and when all are."""
    board, nothing = Board(), cast(Any, None)
    keeper = Keeper(nothing, nothing, TrainingJob(name=JOB, epoch=3), board)
    answers: list[PlatformError | None] = [Aborted("changed", reason="SOURCE_CHANGED"), None]

    async def commit(state: Path) -> None:
        if answer := answers.pop(0):
            raise answer

    monkeypatch.setattr(keeper, "_commit", commit)
    board.states.put(tmp_path)
    assert not await keeper.flush()
    assert not board.stop.is_set()
    assert await keeper.flush()
    answers[:] = [Aborted("stale", reason="STALE_EPOCH")]
    board.states.put(tmp_path)
    assert await keeper.flush()
    assert board.stop.is_set()


@pytest.mark.parametrize(("missing", "over"), [(JOB, True), (f"{JOB}/states/7", False)])
async def test_only_the_loss_of_the_job_itself_ends_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, over: bool
) -> None:
    board, nothing = Board(), cast(Any, None)
    keeper = Keeper(nothing, nothing, TrainingJob(name=JOB, epoch=3), board)

    async def commit(state: Path) -> None:
        raise not_found(missing)

    monkeypatch.setattr(keeper, "_commit", commit)
    board.states.put(tmp_path)
    assert await keeper.flush()
    assert board.stop.is_set() == over


async def test_a_run_that_is_told_to_stop_stops(ear: Ear, reporter: Reporter) -> None:
    ear.stop = True
    await asyncio.wait_for(reporter.run(), 10)
    assert board_of(reporter).stop.is_set()


async def test_a_run_that_is_told_to_pause_hears_it_and_goes_on_reporting(
    ear: Ear, reporter: Reporter
) -> None:
    ear.pause = True
    running = asyncio.create_task(reporter.run())
    await eventually(board_of(reporter).pause.is_set)
    heard = len(ear.reports)
    await eventually(lambda: len(ear.reports) > heard)  # saving takes time, and it is alive
    assert not board_of(reporter).stop.is_set()
    running.cancel()


async def test_a_result_survives_a_trainer_that_is_away_and_a_report_that_fails(
    ear: Ear, reporter: Reporter
) -> None:
    ear.deaf = [Internal("defect", reason="INTERNAL")]
    ear.busy = [
        Unavailable("away", reason="AWAY"),
        DeadlineExceeded("slow", reason="SLOW"),
    ]
    await reporter.succeed(TrainingResult(trained_tokens=7))
    assert [done.result.trained_tokens for done in ear.completions] == [7]


async def test_an_error_is_committed_with_its_reason(ear: Ear, reporter: Reporter) -> None:
    await reporter.fail(InvalidArgument("no rows", reason="NO_ROWS_TO_LEARN"))
    (done,) = ear.completions
    assert done.error.message == "no rows"
    assert not done.HasField("result")
