"""The state machine of jobs, under any sequence of legal and illegal calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier.trainer.v1 import run_service_pb2 as api
from luthier.trainer.v1.training_job_pb2 import (
    ArtifactFile,
    ResumeState,
    TrainingJob,
    TrainingJobEvent,
    TrainingProgress,
    TrainingResult,
)
from luthier_common.errors import Aborted, FailedPrecondition, Internal, PlatformError
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_trainer import job_events, jobs, run_reports
from luthier_trainer.job_events import JobEvents
from luthier_trainer.job_queue import JobQueue
from luthier_trainer.jobs import FINAL, NEXT, Jobs, State, move
from luthier_trainer.metrics import Metrics
from luthier_trainer.publish import Published
from luthier_trainer.run_reports import RunReports
from luthier_trainer.run_settings import EXIT_GAVE_BACK
from luthier_trainer.scheduling import Capacity
from luthier_trainer.transitions import Ending, claim, ending_of, settle, succeed, tell
from prometheus_client import CollectorRegistry

NAME = "projects/acme/trainingJobs/ftjob-1"


class Counted(MemoryRecords):
    """Counts the changes of records."""

    changes = 0

    async def update(self, name: str, value: bytes, *, revision: int) -> int:
        self.changes += 1
        return await super().update(name, value, revision=revision)


class Shelf:
    """Publishes nothing; names what it was shown."""

    async def publish_checkpoint(self, job: TrainingJob, step: int, *_: Any) -> str:
        return f"projects/acme/adapters/s{step}"


class Bench:
    """One job, and everything that may happen to it."""

    def __init__(self, records: Collection[TrainingJob], store: Counted, events: JobEvents) -> None:
        self.records = records
        self.store = store
        self.events = events
        unused: Any = None
        queue = JobQueue(records, Capacity(1))
        self.jobs = Jobs(records, events, unused, unused, queue)
        self.reports = RunReports(records, events, Shelf(), Metrics(CollectorRegistry()))
        self.step = 0

    async def job(self) -> TrainingJob:
        return await self.records.get(NAME)

    async def change(self, change: Callable[[TrainingJob], TrainingJob | None]) -> None:
        await self.records.update(NAME, change)

    async def report(self, back: int) -> None:
        epoch = (await self.job()).epoch - back
        self.step += 1
        await self.reports.ReportRun(
            api.ReportRunRequest(
                training_job=NAME, epoch=epoch, progress=TrainingProgress(step=self.step)
            ),
            None,
        )

    async def save(self, back: int) -> None:
        epoch = (await self.job()).epoch - back
        await self.reports.CommitResumeState(
            api.CommitResumeStateRequest(
                training_job=NAME, epoch=epoch, step=self.step, files=[ArtifactFile(path="state")]
            ),
            None,
        )

    async def checkpoint(self, back: int) -> None:
        epoch = (await self.job()).epoch - back
        await self.reports.PublishCheckpoint(
            api.PublishCheckpointRequest(training_job=NAME, epoch=epoch, step=self.step), None
        )

    async def complete(self, back: int, *, fails: bool = False) -> None:
        epoch = (await self.job()).epoch - back
        request = api.CompleteRunRequest(training_job=NAME, epoch=epoch)
        if fails:
            request.error.code = 3
        else:
            request.result.CopyFrom(TrainingResult(trained_tokens=1))
        await self.reports.CompleteRun(request, None)

    async def publish(self) -> None:
        if (await self.job()).HasField("result"):  # as the controller looks before it publishes
            await self.change(lambda job: succeed(job, Published(("f",), adapter="a")))


@asynccontextmanager
async def bench(state: State = TrainingJob.QUEUED) -> AsyncIterator[Bench]:
    store = Counted()
    async with (
        Collection(store, TrainingJob, jobs.PATTERN) as records,
        Collection(store, TrainingJobEvent, job_events.PATTERN) as events,
    ):
        await records.create(NAME, TrainingJob(state=state))
        yield Bench(records, store, JobEvents(events))


def _end(code: int, *, asked: bool = False) -> Callable[[Bench], Awaitable[None]]:
    return lambda b: b.change(lambda job: settle(job, ending_of(code, asked=asked)))


ACTIONS: dict[str, Callable[[Bench], Awaitable[object]]] = {
    "pause": lambda b: b.jobs.pause(NAME),
    "resume": lambda b: b.jobs.resume(NAME),
    "cancel": lambda b: b.jobs.cancel(NAME),
    "claim": lambda b: b.change(claim),
    "report": lambda b: b.report(0),
    "save": lambda b: b.save(0),
    "checkpoint": lambda b: b.checkpoint(0),
    "complete": lambda b: b.complete(0),
    "cannot be done": lambda b: b.complete(0, fails=True),
    "gave back": _end(EXIT_GAVE_BACK),
    "preempted, killed": _end(-9, asked=True),
    "crash": _end(-11),
    "publish": lambda b: b.publish(),
    "zombie reports": lambda b: b.report(1),
    "zombie saves": lambda b: b.save(1),
    "zombie publishes": lambda b: b.checkpoint(1),
    "zombie completes": lambda b: b.complete(1),
}
STARTS = (TrainingJob.VALIDATING, TrainingJob.QUEUED)


@settings(max_examples=150)
@given(
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(sorted(ACTIONS)), min_size=1, max_size=25),
)
def test_any_sequence_keeps_the_rules(start: State, names: list[str]) -> None:
    asyncio.run(_play(start, names))


async def _play(start: State, names: list[str]) -> None:
    async with bench(start) as played:
        for name in names:
            before = await played.job()
            refusal: PlatformError | None = None
            try:
                await ACTIONS[name](played)
            except PlatformError as error:
                refusal = error
            _check(name, before, await played.job(), refusal)


def _check(
    name: str, before: TrainingJob, after: TrainingJob, refusal: PlatformError | None
) -> None:
    moved = after.state != before.state
    if moved:
        assert after.state in NEXT[before.state]
    if refusal is not None:
        assert isinstance(refusal, Aborted | FailedPrecondition)
        assert after == before
    if before.state in FINAL:
        assert after == before
    if name.startswith("zombie"):
        assert isinstance(refusal, Aborted)
        assert refusal.reason == "STALE_EPOCH"
    if before.HasField("result"):  # what is committed is kept, and wins
        assert after.result == before.result
        assert after.state in (before.state, TrainingJob.SUCCEEDED)
    assert after.epoch == before.epoch + (name == "claim" and moved)
    if before.resume_state.epoch == after.resume_state.epoch:
        assert after.resume_state.step >= before.resume_state.step
    steps = [checkpoint.step for checkpoint in after.checkpoints]
    assert len(steps) == len(set(steps))
    assert after.HasField("end_time") == (after.state in FINAL)


async def test_without_the_fence_a_zombie_would_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the tests above see of zombies they see because of the fence."""
    monkeypatch.setattr(run_reports, "_check_epoch", lambda job, epoch: None)
    async with bench() as played:
        for action in ("claim", "zombie completes"):
            await ACTIONS[action](played)
        assert (await played.job()).HasField("result")


STATES: list[Any] = State.values()


@pytest.mark.parametrize("state", STATES)
async def test_a_state_that_cannot_follow_is_a_defect_and_changes_nothing(state: State) -> None:
    for target in STATES:
        job = TrainingJob(state=state)
        if target in NEXT.get(state, ()):
            assert move(job, target).state == target
            continue
        with pytest.raises(Internal, match="cannot become"):
            move(job, target)
        assert job.state == state


REFUSED = [
    ("pause", TrainingJob.VALIDATING, "JOB_VALIDATING"),
    ("pause", TrainingJob.CANCELLING, "JOB_ENDED"),
    ("pause", TrainingJob.CANCELLED, "JOB_ENDED"),
    ("resume", TrainingJob.PAUSING, "JOB_PAUSING"),
    ("resume", TrainingJob.CANCELLING, "JOB_ENDED"),
    ("resume", TrainingJob.FAILED, "JOB_ENDED"),
    ("cancel", TrainingJob.SUCCEEDED, "JOB_ENDED"),
]


@pytest.mark.parametrize(("action", "state", "reason"), REFUSED)
async def test_what_cannot_be_asked_is_refused_with_its_reason(
    action: str, state: State, reason: str
) -> None:
    async with bench(state) as played:
        with pytest.raises(FailedPrecondition) as caught:
            await ACTIONS[action](played)
        assert caught.value.reason == reason
        assert not played.events.list(NAME, page_size=0, page_token="", after="", order_by="").items


REPEATED = [
    ("pause", TrainingJob.PAUSING),
    ("pause", TrainingJob.PAUSED),
    ("resume", TrainingJob.QUEUED),
    ("resume", TrainingJob.RUNNING),
    ("cancel", TrainingJob.CANCELLING),
]


@pytest.mark.parametrize(("action", "state"), REPEATED)
async def test_asking_for_what_is_so_already_changes_nothing(action: str, state: State) -> None:
    async with bench(state) as played:
        before = await played.job()
        await ACTIONS[action](played)
        assert await played.job() == before
        assert not played.events.list(NAME, page_size=0, page_token="", after="", order_by="").items


async def test_one_call_is_one_change_of_the_record() -> None:
    async with bench() as played:
        for action in ("pause", "resume", "claim", "report", "save", "pause", "gave back"):
            before = played.store.changes
            await ACTIONS[action](played)
            assert played.store.changes == before + 1
        assert (await played.job()).state == TrainingJob.PAUSED


async def test_faults_count_from_the_last_progress_on() -> None:
    async with bench() as played:
        for _ in range(5):  # far apart: each run gets further than the one before
            for action in ("claim", "report", "save", "crash"):
                await ACTIONS[action](played)
            assert (await played.job()).state == TrainingJob.QUEUED
        assert (await played.job()).fault_count == 1
        for action in ("claim", "crash", "claim", "crash"):
            await ACTIONS[action](played)
        failed = await played.job()
        assert (failed.state, failed.fault_count) == (TrainingJob.FAILED, 3)


async def test_giving_back_is_no_fault_and_no_progress() -> None:
    async with bench() as played:
        for action in ("claim", "crash", "claim", "gave back", "claim", "crash"):
            await ACTIONS[action](played)
        assert (await played.job()).fault_count == 2


SAVED = ResumeState(step=40, epoch=2)
EARLIER = ResumeState(step=40, epoch=1)
WORDS = [
    (
        TrainingJob.QUEUED,
        SAVED,
        Ending("exit code 75", gave_back=True, preempted=True),
        "The run saved its state at step 40 and gave the device to a job of higher priority; "
        "it will go on from step 40",
    ),
    (
        TrainingJob.QUEUED,
        SAVED,
        Ending("exit code 75", gave_back=True),
        "The run saved its state at step 40 and gave the device back; it will go on from step 40",
    ),
    (
        TrainingJob.PAUSED,
        SAVED,
        Ending("exit code 75", gave_back=True),
        "The run saved its state at step 40 and gave the device back; "
        "the job is paused and will go on from step 40",
    ),
    (
        TrainingJob.QUEUED,
        EARLIER,
        Ending("signal 9", gave_back=True),
        "The run gave the device back; it will go on from step 40",
    ),
    (
        TrainingJob.QUEUED,
        None,
        Ending("exit code 75", gave_back=True),
        "The run gave the device back; it will start over",
    ),
    (
        TrainingJob.PAUSED,
        SAVED,
        Ending("signal 11"),
        "The run ended (signal 11); the job is paused and will go on from step 40",
    ),
    (
        TrainingJob.QUEUED,
        None,
        Ending("exit code 1"),
        "The run ended (exit code 1); it will start over",
    ),
]


@pytest.mark.parametrize(("state", "saved", "ending", "words"), WORDS)
def test_the_end_of_a_run_is_told_in_words(
    state: State, saved: ResumeState | None, ending: Ending, words: str
) -> None:
    job = TrainingJob(state=state, epoch=2, resume_state=saved)
    message, level = tell(job, ending)
    assert message == words
    assert level == (TrainingJobEvent.INFO if ending.gave_back else TrainingJobEvent.WARN)
