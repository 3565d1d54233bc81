"""The gRPC side of runs: only the run of the current epoch is heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from google.protobuf.empty_pb2 import Empty
from luthier.trainer.v1 import run_service_pb2 as api
from luthier.trainer.v1.run_service_pb2_grpc import RunServiceServicer
from luthier.trainer.v1.training_job_pb2 import (
    ArtifactFile,
    TrainingCheckpoint,
    TrainingJob,
    TrainingProgress,
)
from luthier_common.errors import Aborted, InvalidArgument
from luthier_common.names import parse
from luthier_common.records.collection import Collection

from luthier_trainer.job_events import JobEvents
from luthier_trainer.jobs import AT_WORK, FINAL, PATTERN, State, move
from luthier_trainer.metrics import Metrics

_CHARTED = 100
"""Metrics events of a job, about."""


class Checkpoints(Protocol):
    """Makes a model of what a run has reached."""

    async def publish_checkpoint(
        self,
        job: TrainingJob,
        step: int,
        files: Iterable[ArtifactFile],
        metrics: Mapping[str, float],
    ) -> str:
        """Publish the adapter of a step and return its name; repeating it changes nothing."""


class RunReports(RunServiceServicer):
    """Serves `luthier.trainer.v1.RunService`."""

    def __init__(
        self,
        records: Collection[TrainingJob],
        events: JobEvents,
        checkpoints: Checkpoints,
        metrics: Metrics,
    ) -> None:
        self._records = records
        self._events = events
        self._checkpoints = checkpoints
        self._metrics = metrics

    async def ReportRun(self, request: api.ReportRunRequest, context: Any) -> api.ReportRunResponse:
        """See the proto."""
        parse(request.training_job, PATTERN, field="training_job")
        before = TrainingProgress()

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_epoch(job, request.epoch)
            before.CopyFrom(job.progress)
            if job.state not in AT_WORK:
                return None
            if request.progress.step:  # before, what the run before this one has told stands
                job.progress.CopyFrom(request.progress)
            return job

        job = await self._records.update(request.training_job, change)
        if job.state not in AT_WORK:
            return api.ReportRunResponse(stop=True)
        for message in request.messages:
            await self._events.tell(job.name, message)
        await self._chart(job, before)
        return api.ReportRunResponse(pause=job.state == TrainingJob.PAUSING)

    async def CommitResumeState(self, request: api.CommitResumeStateRequest, context: Any) -> Empty:
        """See the proto."""
        parse(request.training_job, PATTERN, field="training_job")
        if not request.files:
            raise InvalidArgument("files is required", reason="REQUIRED", field="files")

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_at_work(job, request.epoch)
            state = job.resume_state
            if state.epoch == request.epoch and state.step >= request.step:
                return None  # repeated, or overtaken on the way
            if request.step > state.step:
                job.fault_count = 0  # whatever ended runs before this one, it is got over
            state.Clear()
            state.step, state.epoch = request.step, request.epoch
            state.files.extend(request.files)
            state.create_time.GetCurrentTime()
            return job

        await self._records.update(request.training_job, change)
        return Empty()

    async def PublishCheckpoint(self, request: api.PublishCheckpointRequest, context: Any) -> Empty:
        """See the proto."""
        parse(request.training_job, PATTERN, field="training_job")
        job = await self._records.get(request.training_job)
        _check_at_work(job, request.epoch)
        if _is_published(job, request.step):
            return Empty()
        adapter = await self._checkpoints.publish_checkpoint(
            job, request.step, request.files, request.metrics
        )
        checkpoint = TrainingCheckpoint(step=request.step, adapter=adapter, metrics=request.metrics)
        checkpoint.create_time.GetCurrentTime()

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_at_work(job, request.epoch)
            if _is_published(job, request.step):
                return None
            job.checkpoints.append(checkpoint)
            return job

        await self._records.update(request.training_job, change)
        await self._events.tell(job.name, f"Checkpoint created at step {request.step}")
        return Empty()

    async def CompleteRun(self, request: api.CompleteRunRequest, context: Any) -> Empty:
        """See the proto."""
        parse(request.training_job, PATTERN, field="training_job")
        outcome = request.WhichOneof("outcome")
        if outcome is None:
            raise InvalidArgument("outcome is required", reason="REQUIRED", field="outcome")

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_epoch(job, request.epoch)
            if job.state == TrainingJob.CANCELLING or job.state in FINAL or job.HasField("result"):
                return None  # repeated, or no longer wanted
            _check_at_work(job, request.epoch)
            if outcome == "result":
                job.result.CopyFrom(request.result)
                return job
            job.error.CopyFrom(request.error)
            return move(job, TrainingJob.FAILED)

        await self._records.update(request.training_job, change)
        self._metrics.runs.labels("done" if outcome == "result" else "error").inc()
        return Empty()

    async def _chart(self, job: TrainingJob, before: TrainingProgress) -> None:
        """Of all the progress, tell what moves a chart of a hundred points."""
        now = job.progress
        if not now.step:
            return
        total = max(1, now.total_steps)
        if now.step * _CHARTED // total > before.step * _CHARTED // total:
            message = f"Step {now.step}/{now.total_steps}: training loss={now.loss:.2f}"
            await self._events.tell(job.name, message, metrics=now)


def _check_epoch(job: TrainingJob, epoch: int) -> None:
    if job.epoch != epoch:
        raise Aborted(f"{job.name} is at epoch {job.epoch}, not {epoch}", reason="STALE_EPOCH")


def _check_at_work(job: TrainingJob, epoch: int) -> None:
    """Aborted for a run that is not, or no longer, the job's run at work."""
    _check_epoch(job, epoch)
    if job.state not in AT_WORK:
        name = State.Name(job.state)
        raise Aborted(f"the run {epoch} of {job.name} has ended: {name}", reason="STALE_EPOCH")


def _is_published(job: TrainingJob, step: int) -> bool:
    return any(checkpoint.step == step for checkpoint in job.checkpoints)
