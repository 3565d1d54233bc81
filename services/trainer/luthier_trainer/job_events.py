"""What happened to jobs, for people and charts."""

from __future__ import annotations

import contextlib

from luthier.trainer.v1.training_job_pb2 import TrainingJobEvent, TrainingProgress
from luthier_common.errors import AlreadyExists
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection

PATTERN = "projects/{project}/trainingJobs/{training_job}/events/{event}"


class JobEvents:
    """The events of all jobs, numbered from 1 in each."""

    def __init__(self, records: Collection[TrainingJobEvent]) -> None:
        self._records = records
        self._last: dict[str, int] = {}

    async def tell_first(self, job: str, message: str) -> None:
        """Add the first event; nothing when there is one already."""
        event = TrainingJobEvent(level=TrainingJobEvent.INFO, message=message)
        with contextlib.suppress(AlreadyExists):
            await self._records.create(f"{job}/events/{1:06}", event)

    async def tell(
        self,
        job: str,
        message: str,
        *,
        level: TrainingJobEvent.Level = TrainingJobEvent.INFO,
        metrics: TrainingProgress | None = None,
    ) -> None:
        """Add an event to the job of that name."""
        event = TrainingJobEvent(level=level, message=message, metrics=metrics)
        while True:
            if job not in self._last:
                self._last[job] = len(self._records.values(job))
            self._last[job] += 1
            try:
                await self._records.create(f"{job}/events/{self._last[job]:06}", event)
                return
            except AlreadyExists:
                continue  # another writer's; take the next number

    def holds(self, job: str, message: str) -> bool:
        """Whether an event of the job says exactly this."""
        return any(event.message == message for event in self._records.values(job))

    def forget(self, job: str) -> None:
        """Let go of what is remembered of a job that has ended."""
        self._last.pop(job, None)

    def list(
        self, job: str, *, page_size: int, page_token: str, after: str, order_by: str
    ) -> Page[TrainingJobEvent]:
        """Return a page of a job's events."""
        return self._records.list(
            job,
            order_by=order_by or "create_time desc",
            after=after or None,
            page_size=coerce_page_size(page_size, default=20, maximum=1000),
            page_token=page_token,
        )
