"""The gRPC side of jobs: converts, calls, converts."""

from __future__ import annotations

from typing import Any

from luthier.trainer.v1 import training_job_service_pb2 as api
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.training_job_service_pb2_grpc import TrainingJobServiceServicer
from luthier_common.names import parse

from luthier_trainer.job_events import JobEvents
from luthier_trainer.jobs import PATTERN, Jobs


class JobService(TrainingJobServiceServicer):
    """Serves `luthier.trainer.v1.TrainingJobService`."""

    def __init__(self, jobs: Jobs, events: JobEvents) -> None:
        self._jobs = jobs
        self._events = events

    async def CreateTrainingJob(
        self, request: api.CreateTrainingJobRequest, context: Any
    ) -> TrainingJob:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        return await self._jobs.create(
            request.parent,
            request.training_job,
            request.training_job_id,
            request.request_id,
            validate_only=request.validate_only,
        )

    async def GetTrainingJob(self, request: api.GetTrainingJobRequest, context: Any) -> TrainingJob:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._jobs.get(request.name)

    async def ListTrainingJobs(
        self, request: api.ListTrainingJobsRequest, context: Any
    ) -> api.ListTrainingJobsResponse:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        page = self._jobs.list(
            request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            after=request.after,
            order_by=request.order_by,
        )
        return api.ListTrainingJobsResponse(
            training_jobs=page.items, next_page_token=page.next_page_token
        )

    async def CancelTrainingJob(
        self, request: api.CancelTrainingJobRequest, context: Any
    ) -> TrainingJob:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._jobs.cancel(request.name)

    async def PauseTrainingJob(
        self, request: api.PauseTrainingJobRequest, context: Any
    ) -> TrainingJob:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._jobs.pause(request.name)

    async def ResumeTrainingJob(
        self, request: api.ResumeTrainingJobRequest, context: Any
    ) -> TrainingJob:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._jobs.resume(request.name)

    async def ListTrainingJobEvents(
        self, request: api.ListTrainingJobEventsRequest, context: Any
    ) -> api.ListTrainingJobEventsResponse:
        """See the proto."""
        parse(request.parent, PATTERN, field="parent")
        job = await self._jobs.get(request.parent)
        page = self._events.list(
            job.name,
            page_size=request.page_size,
            page_token=request.page_token,
            after=request.after,
            order_by=request.order_by,
        )
        return api.ListTrainingJobEventsResponse(
            training_job_events=page.items, next_page_token=page.next_page_token
        )
