"""The controller: takes every job from VALIDATING to its end, also after a restart.

One controller at a time. The runs are this process's children and die with it, so a job that is
RUNNING and has no run here has lost it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingJobEvent
from luthier_common.errors import Internal, NotFound, PlatformError
from luthier_common.names import id_of
from luthier_common.records.collection import Collection
from luthier_common.rpc.status import to_status

from luthier_trainer.job_events import JobEvents
from luthier_trainer.jobs import FINAL, State, move
from luthier_trainer.metrics import Metrics
from luthier_trainer.peers import TRANSIENT
from luthier_trainer.publish import Publisher
from luthier_trainer.supervisor import Supervisor
from luthier_trainer.validation import Validation

_RETRY_SECONDS = 1.0
_RESCAN_SECONDS = 10.0
_MOST_FAULTS = 3

logger = logging.getLogger(__name__)


class Controller:
    """Looks at every job and does what its state asks for, a task a job."""

    def __init__(
        self,
        records: Collection[TrainingJob],
        events: JobEvents,
        validation: Validation,
        supervisor: Supervisor,
        publisher: Publisher,
        metrics: Metrics,
        *,
        max_runs: int,
    ) -> None:
        self._records = records
        self._events = events
        self._validation = validation
        self._supervisor = supervisor
        self._publisher = publisher
        self._metrics = metrics
        self._max_runs = max_runs
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runs: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; jobs whose runs end by that are queued again."""
        ringing = asyncio.create_task(self._ring(), name="job changes")
        unfinished = [job.name for job in self._records.values() if job.state not in FINAL]
        await self._supervisor.sweep(keep=unfinished)
        try:
            while True:
                self._wake.clear()
                for job in sorted(self._records.values(), key=_age):
                    self._look_at(job)
                try:
                    async with asyncio.timeout(_RESCAN_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = [ringing, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ring(self) -> None:
        async for _ in self._records.changes():
            self._wake.set()

    def _look_at(self, job: TrainingJob) -> None:
        if job.name in self._tasks or job.state in FINAL:
            return
        match job.state:
            case TrainingJob.VALIDATING:
                self._start(job.name, self._validate(job))
            case TrainingJob.QUEUED if len(self._runs) < self._max_runs:
                self._runs.add(job.name)
                self._start(job.name, self._tune(job.name))
            case TrainingJob.RUNNING | TrainingJob.CANCELLING:
                self._start(job.name, self._take_up(job.name))

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guard(name, work), name=f"job {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        self._tasks.pop(name)
        self._runs.discard(name)
        self._wake.set()

    async def _guard(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A task that fails leaves its job as it is; looking again tries again."""
        try:
            await work
        except NotFound:
            logger.info("job is gone", extra={"job": name})
        except PlatformError as error:
            logger.warning("job must wait", extra={"job": name, "cause": error.message})
            await asyncio.sleep(_RETRY_SECONDS)
        except Exception:
            logger.exception("job must wait", extra={"job": name})
            await asyncio.sleep(_RETRY_SECONDS)

    async def _validate(self, job: TrainingJob) -> None:
        await self._events.tell_first(job.name, f"Created fine-tuning job: {id_of(job.name)}")
        try:
            resolved = await self._validation.resolve(job)
        except TRANSIENT:
            raise
        except PlatformError as error:
            await self._fail(job.name, error)
            return

        def change(job: TrainingJob) -> TrainingJob | None:
            if job.state != TrainingJob.VALIDATING:
                return None
            job.resolved_hyperparameters.CopyFrom(resolved)
            return move(job, TrainingJob.QUEUED)

        if await self._update(job.name, change):
            await self._events.tell(job.name, "Files validated, moving job to queued state")

    async def _tune(self, name: str) -> None:
        try:
            base = await self._supervisor.base_of(await self._records.get(name))
        except TRANSIENT:
            raise
        except PlatformError as error:
            await self._fail(name, error)
            return

        def claim(job: TrainingJob) -> TrainingJob | None:
            if job.state != TrainingJob.QUEUED:
                return None
            job.epoch += 1
            return move(job, TrainingJob.RUNNING)

        job = await self._update(name, claim)
        if job is None:
            return
        await self._events.tell(name, "Fine-tuning job started")
        with self._metrics.running.track_inprogress():
            try:
                how = await self._supervisor.see_through(job, base)
            except asyncio.CancelledError:
                await self._requeue(name, job.epoch)
                raise
        await self._conclude(name, job.epoch, how)

    async def _take_up(self, name: str) -> None:
        """A job whose run died with the trainer, or one that only waits for its end."""
        job = await self._records.get(name)
        await self._conclude(name, job.epoch, "its run is gone")

    async def _conclude(self, name: str, epoch: int, how: str) -> None:
        """Do what follows the end of a run, which ended `how`."""
        job = await self._records.get(name)
        if job.epoch != epoch:
            return
        match job.state:
            case TrainingJob.CANCELLING:
                await self._end_cancelled(name)
            case TrainingJob.RUNNING if job.HasField("result"):
                await self._publish(job)
            case TrainingJob.RUNNING:
                await self._count_fault(name, epoch, how)
            case TrainingJob.FAILED:  # the run itself said that it cannot be done
                await self._told_failed(job)

    async def _publish(self, job: TrainingJob) -> None:
        try:
            file, adapter = await self._publisher.publish(job)
        except TRANSIENT:
            raise
        except PlatformError as error:
            await self._fail(job.name, error)
            return

        def change(job: TrainingJob) -> TrainingJob | None:
            if job.state != TrainingJob.RUNNING:
                return None
            job.adapter = adapter
            job.result_files[:] = [file]
            return move(job, TrainingJob.SUCCEEDED)

        done = await self._update(job.name, change)
        if done is not None:
            await self._events.tell(job.name, "New fine-tuned model created")
            await self._events.tell(job.name, "The job has successfully completed")
            await self._tidy(done)

    async def _count_fault(self, name: str, epoch: int, how: str) -> None:
        def change(job: TrainingJob) -> TrainingJob | None:
            if job.state != TrainingJob.RUNNING or job.epoch != epoch:
                return None
            job.fault_count += 1
            if job.fault_count < _MOST_FAULTS:
                return move(job, TrainingJob.QUEUED)
            reason = f"its run ended {_MOST_FAULTS} times before it was done; the last time {how}"
            job.error.CopyFrom(to_status(Internal(reason, reason="RUN_FAILED")))
            return move(job, TrainingJob.FAILED)

        job = await self._update(name, change)
        if job is None:
            return
        self._metrics.runs.labels("fault").inc()
        if job.state == TrainingJob.QUEUED:
            message = f"The run ended ({how}); it starts again from its last checkpoint"
            await self._events.tell(name, message, level=TrainingJobEvent.WARN)
        else:
            await self._told_failed(job)

    async def _requeue(self, name: str, epoch: int) -> None:
        """The trainer stops in order: nobody's fault."""

        def change(job: TrainingJob) -> TrainingJob | None:
            running = job.state == TrainingJob.RUNNING and job.epoch == epoch
            return move(job, TrainingJob.QUEUED) if running and not job.HasField("result") else None

        await self._records.update(name, change)

    async def _end_cancelled(self, name: str) -> None:
        def change(job: TrainingJob) -> TrainingJob | None:
            return None if job.state in FINAL else move(job, TrainingJob.CANCELLED)

        job = await self._update(name, change)
        if job is not None:
            await self._events.tell(name, "The job was cancelled")
            await self._tidy(job)

    async def _fail(self, name: str, error: PlatformError) -> None:
        def change(job: TrainingJob) -> TrainingJob | None:
            if job.state in FINAL:
                return None
            job.error.CopyFrom(to_status(error))
            return move(job, TrainingJob.FAILED)

        job = await self._update(name, change)
        if job is not None:
            await self._told_failed(job)

    async def _update(
        self, name: str, change: Callable[[TrainingJob], TrainingJob | None]
    ) -> TrainingJob | None:
        """Return the record as changed here, None when there was nothing to change."""
        changed = False

        def watched(job: TrainingJob) -> TrainingJob | None:
            nonlocal changed
            result = change(job)
            changed = result is not None
            return result

        job = await self._records.update(name, watched)
        return job if changed else None

    async def _told_failed(self, job: TrainingJob) -> None:
        message = f"The job failed: {job.error.message}"
        await self._events.tell(job.name, message, level=TrainingJobEvent.ERROR)
        await self._tidy(job)

    async def _tidy(self, job: TrainingJob) -> None:
        self._metrics.jobs.labels(State.Name(job.state)).inc()
        self._events.forget(job.name)
        await self._supervisor.clear(job.name)


def _age(job: TrainingJob) -> tuple[int, int]:
    return job.create_time.seconds, job.create_time.nanos
