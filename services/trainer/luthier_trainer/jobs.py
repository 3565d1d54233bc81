"""Training jobs: what callers may do with them, and which state follows which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from luthier.trainer.v1.preflight_pb2 import Preflight
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters
from luthier_common.errors import FailedPrecondition, Internal
from luthier_common.names import choose_id
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection
from luthier_common.records.requests import create_once, made_before

from luthier_trainer import job_requests
from luthier_trainer.job_events import JobEvents
from luthier_trainer.job_queue import JobQueue
from luthier_trainer.peers import Peers
from luthier_trainer.pinning import pin

PATTERN = "projects/{project}/trainingJobs/{training_job}"

State = TrainingJob.State
FINAL = frozenset({TrainingJob.SUCCEEDED, TrainingJob.FAILED, TrainingJob.CANCELLED})
AT_WORK = frozenset({TrainingJob.RUNNING, TrainingJob.PAUSING})
"""The states in which a run is heard."""
NEXT: dict[State, frozenset[State]] = {
    TrainingJob.VALIDATING: frozenset(
        {TrainingJob.QUEUED, TrainingJob.FAILED, TrainingJob.CANCELLED}
    ),
    TrainingJob.QUEUED: frozenset(
        {TrainingJob.RUNNING, TrainingJob.PAUSED, TrainingJob.FAILED, TrainingJob.CANCELLED}
    ),
    TrainingJob.RUNNING: frozenset(
        {
            TrainingJob.QUEUED,
            TrainingJob.PAUSING,
            TrainingJob.CANCELLING,
            TrainingJob.SUCCEEDED,
            TrainingJob.FAILED,
        }
    ),
    TrainingJob.PAUSING: frozenset(
        {
            TrainingJob.PAUSED,
            TrainingJob.CANCELLING,
            TrainingJob.SUCCEEDED,
            TrainingJob.FAILED,
        }
    ),
    TrainingJob.PAUSED: frozenset({TrainingJob.QUEUED, TrainingJob.CANCELLED}),
    TrainingJob.CANCELLING: frozenset({TrainingJob.CANCELLED}),
}
"""Which state follows which; nothing follows a final one."""


class Examined(Protocol):
    """What is known of a job before it is queued."""

    @property
    def hyperparameters(self) -> ResolvedHyperparameters:
        """What the run shall use."""

    @property
    def preflight(self) -> Preflight:
        """What it will need and cost."""


class Examiner(Protocol):
    """Looks a job over."""

    async def examine(self, job: TrainingJob) -> Examined:
        """Look at the rows of `job`, files pinned; a PlatformError says what is wrong with it."""


def move(job: TrainingJob, state: State) -> TrainingJob:
    """Put `job` into `state`, with the times that go with it; Internal if it cannot follow."""
    if state not in NEXT.get(job.state, frozenset()):
        names = f"{State.Name(job.state)} cannot become {State.Name(state)}"
        raise Internal(f"{job.name}: {names}", reason="ILLEGAL_TRANSITION")
    job.state = state
    if state == TrainingJob.RUNNING and not job.HasField("start_time"):
        job.start_time.GetCurrentTime()
    if state in FINAL:
        job.end_time.GetCurrentTime()
    return job


class Jobs:
    """The jobs of all projects, as their callers see them."""

    def __init__(
        self,
        records: Collection[TrainingJob],
        events: JobEvents,
        peers: Peers,
        examiner: Examiner,
        queue: JobQueue,
    ) -> None:
        self._records = records
        self._events = events
        self._peers = peers
        self._examiner = examiner
        self._queue = queue

    async def create(
        self,
        parent: str,
        draft: TrainingJob,
        job_id: str,
        request_id: str,
        *,
        validate_only: bool = False,
    ) -> TrainingJob:
        """Check what can be checked at once, pin what the job names, and store the job.

        With `validate_only` it is looked over to the end, and not stored. InvalidArgument,
        NotFound, AlreadyExists, FailedPrecondition.
        """
        job_requests.check(draft, request_id)
        earlier = made_before(self._records, parent, request_id)
        if earlier is not None:
            return job_requests.same(earlier, draft)
        job = await pin(self._peers, parent, draft)
        job.request_id = request_id
        chosen = choose_id("ftjob", parent, job_id, request_id, field="training_job_id")
        job.name = f"{parent}/trainingJobs/{chosen}"
        if validate_only:
            examined = await self._examiner.examine(job)
            job.resolved_hyperparameters.CopyFrom(examined.hyperparameters)
            job.preflight.CopyFrom(examined.preflight)
            return job
        return job_requests.same(await create_once(self._records, job), draft)

    async def get(self, name: str) -> TrainingJob:
        """Return a job, with its place in the queue; NotFound."""
        job = await self._records.get(name)
        self._queue.show(job)
        return job

    def list(
        self, parent: str, *, page_size: int, page_token: str, after: str, order_by: str
    ) -> Page[TrainingJob]:
        """Return a page of a project's jobs, with their places in the queue."""
        page = self._records.list(
            parent,
            order_by=order_by or "create_time desc",
            after=after or None,
            page_size=coerce_page_size(page_size, default=20, maximum=1000),
            page_token=page_token,
        )
        self._queue.show(*page.items)
        return page

    async def cancel(self, name: str) -> TrainingJob:
        """Ask a job to end; NotFound, FailedPrecondition when it is beyond that."""

        def change(job: TrainingJob) -> TrainingJob | None:
            if job.state == TrainingJob.CANCELLING:
                return None
            _check_open(job, "cancelled")
            at_work = job.state in AT_WORK
            return move(job, TrainingJob.CANCELLING if at_work else TrainingJob.CANCELLED)

        said = {TrainingJob.CANCELLED: "The job was cancelled"}
        return await self._change(name, change, said)

    async def pause(self, name: str) -> TrainingJob:
        """Ask a job to save its state and rest; NotFound, FailedPrecondition when it cannot."""

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_open(job, "paused")
            match job.state:
                case TrainingJob.VALIDATING:
                    raise FailedPrecondition(
                        f"the rows of {name} are being checked; pause it once it is queued",
                        reason="JOB_VALIDATING",
                    )
                case TrainingJob.QUEUED:
                    return move(job, TrainingJob.PAUSED)
                case TrainingJob.RUNNING:
                    return move(job, TrainingJob.PAUSING)
            return None

        said = {
            TrainingJob.PAUSED: "The job was paused",
            TrainingJob.PAUSING: "The job is asked to save its state and pause",
        }
        return await self._change(name, change, said)

    async def resume(self, name: str) -> TrainingJob:
        """Have a paused job wait for a device again; NotFound, FailedPrecondition."""

        def change(job: TrainingJob) -> TrainingJob | None:
            _check_open(job, "resumed")
            if job.state == TrainingJob.PAUSING:
                raise FailedPrecondition(
                    f"{name} is saving its state; resume it once it is paused",
                    reason="JOB_PAUSING",
                )
            return move(job, TrainingJob.QUEUED) if job.state == TrainingJob.PAUSED else None

        said = {TrainingJob.QUEUED: "The job was resumed and waits for a device"}
        return await self._change(name, change, said)

    async def _change(
        self,
        name: str,
        change: Callable[[TrainingJob], TrainingJob | None],
        said: Mapping[State, str],
    ) -> TrainingJob:
        """Change a job; when that has moved it, tell what is `said` of its new state."""
        before = TrainingJob.STATE_UNSPECIFIED

        def watched(job: TrainingJob) -> TrainingJob | None:
            nonlocal before
            before = job.state
            return change(job)

        job = await self._records.update(name, watched)
        if job.state != before and job.state in said:
            await self._events.tell(name, said[job.state])
        self._queue.show(job)
        return job


def _check_open(job: TrainingJob, what: str) -> None:
    """FailedPrecondition when nothing can be done about a job any more."""
    name = State.Name(job.state)
    if job.state in FINAL:
        happened = f"has already {name.lower()}"
    elif job.HasField("result"):
        happened = "has already been tuned"
    elif job.state == TrainingJob.CANCELLING:
        happened = "is being cancelled"
    else:
        return
    raise FailedPrecondition(
        f"{job.name} {happened}; it cannot be {what}", reason="JOB_ENDED", metadata={"state": name}
    )
