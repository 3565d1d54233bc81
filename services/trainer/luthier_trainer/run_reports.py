"""The gRPC side of runs: only the run of the current epoch is heard."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from luthier.trainer.v1 import run_service_pb2 as api
from luthier.trainer.v1.run_service_pb2_grpc import RunServiceServicer
from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingProgress
from luthier_common.errors import Aborted, InvalidArgument
from luthier_common.names import parse
from luthier_common.records.collection import Collection

from luthier_trainer.job_events import JobEvents
from luthier_trainer.jobs import PATTERN, move
from luthier_trainer.metrics import Metrics

_CHARTED = 100
"""Metrics events of a job, about."""


class RunReports(RunServiceServicer):
    """Serves `luthier.trainer.v1.RunService`."""

    def __init__(
        self, records: Collection[TrainingJob], events: JobEvents, metrics: Metrics
    ) -> None:
        self._records = records
        self._events = events
        self._metrics = metrics

    async def ReportRun(self, request: api.ReportRunRequest, context: Any) -> api.ReportRunResponse:
        """See the proto."""
        parse(request.training_job, PATTERN, field="training_job")
        before = TrainingProgress()

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_epoch(job, request.epoch)
            before.CopyFrom(job.progress)
            if job.state != TrainingJob.RUNNING:
                return None
            job.progress.CopyFrom(request.progress)
            return job

        job = await self._records.update(request.training_job, change)
        if job.state != TrainingJob.RUNNING:
            return api.ReportRunResponse(stop=True)
        for message in request.messages:
            await self._events.tell(job.name, message)
        await self._chart(job, before)
        return api.ReportRunResponse()

    async def CompleteRun(self, request: api.CompleteRunRequest, context: Any) -> Empty:
        """See the proto."""
        parse(request.training_job, PATTERN, field="training_job")
        outcome = request.WhichOneof("outcome")
        if outcome is None:
            raise InvalidArgument("outcome is required", reason="REQUIRED", field="outcome")

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_epoch(job, request.epoch)
            if outcome == "result" and job.HasField("result"):
                return None
            if job.state != TrainingJob.RUNNING:
                return None
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
        self._metrics.tokens_per_second.set(now.tokens_per_second)
        total = max(1, now.total_steps)
        if now.step * _CHARTED // total > before.step * _CHARTED // total:
            message = f"Step {now.step}/{now.total_steps}: training loss={now.loss:.2f}"
            await self._events.tell(job.name, message, metrics=now)


def _check_epoch(job: TrainingJob, epoch: int) -> None:
    if job.epoch != epoch:
        raise Aborted(f"{job.name} is at epoch {job.epoch}, not {epoch}", reason="STALE_EPOCH")
