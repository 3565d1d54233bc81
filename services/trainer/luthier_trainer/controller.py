"""The controller: takes every job from VALIDATING to its end, also after a restart.

One controller at a time. The runs are this process's children and die with it, so a job that is
RUNNING and has no run here has lost it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingJobEvent
from luthier_common.errors import NotFound, PlatformError
from luthier_common.names import id_of
from luthier_common.records.collection import Collection
from luthier_common.rpc.status import to_status

from luthier_trainer.calibrations import Calibrations
from luthier_trainer.job_events import JobEvents
from luthier_trainer.job_queue import JobQueue
from luthier_trainer.jobs import AT_WORK, FINAL, NEXT, Examiner, State, move
from luthier_trainer.metrics import Metrics
from luthier_trainer.peers import TRANSIENT
from luthier_trainer.publish import Publisher
from luthier_trainer.supervisor import Supervisor
from luthier_trainer.transitions import (
    COMPLETED,
    Ending,
    claim,
    end_of,
    settle,
    succeed,
    tell,
)

_RETRY_SECONDS = 1.0
_RESCAN_SECONDS = 10.0
_SETTLE_SECONDS = 10.0
"""To write down, when the trainer stops, what became of its runs."""
_LOST = Ending("its run is gone")

logger = logging.getLogger(__name__)


class Controller:
    """Looks at every job and does what its state asks for, a task a job."""

    def __init__(
        self,
        records: Collection[TrainingJob],
        events: JobEvents,
        examiner: Examiner,
        queue: JobQueue,
        supervisor: Supervisor,
        publisher: Publisher,
        calibrations: Calibrations,
        metrics: Metrics,
    ) -> None:
        self._records = records
        self._events = events
        self._examiner = examiner
        self._queue = queue
        self._supervisor = supervisor
        self._publisher = publisher
        self._calibrations = calibrations
        self._metrics = metrics
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, asyncio.Event] = {}
        """The jobs that hold a place, and what asks them to give it back."""
        self._unfinished: set[str] = set()
        """The jobs that something must be cleared away of once they have ended."""
        self._wake = asyncio.Event()
        self._draining = False

    async def run(self) -> None:
        """Work until cancelled; `drain` first, so that no run loses what it has not saved."""
        ringing = asyncio.create_task(self._ring(), name="job changes")
        unfinished = [job.name for job in self._records.values() if job.state not in FINAL]
        await self._supervisor.sweep(keep=unfinished)
        for job in self._records.values():
            if job.state in FINAL:
                await self._tell_end(job)  # unless the trainer that ended it has done so
        try:
            while True:
                self._wake.clear()
                if not self._draining:
                    self._look()
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

    async def drain(self) -> None:
        """Start nothing more, have every run save its state, and wait until their jobs wait."""
        self._draining = True
        for give_back in self._runs.values():
            give_back.set()
        if tasks := [self._tasks[name] for name in self._runs]:
            seconds = self._supervisor.give_back_seconds + _SETTLE_SECONDS
            await asyncio.wait(tasks, timeout=seconds)

    async def _ring(self) -> None:
        async for _ in self._records.changes():
            self._wake.set()

    def _look(self) -> None:
        jobs = self._records.values()
        for job in jobs:
            self._look_at(job)
        yielding = {name for name, give_back in self._runs.items() if give_back.is_set()}
        plan = self._queue.plan(jobs, holding=self._runs.keys(), yielding=yielding)
        self._metrics.waiting.set(len(plan.places))
        for name in plan.start:
            if name not in self._tasks:  # else it is next, and keeps its place until it can start
                self._runs[name] = asyncio.Event()
                self._start(name, self._tune(name, self._runs[name]))
        for name in plan.preempt:
            logger.info("preempted", extra={"job": name})
            self._runs[name].set()

    def _look_at(self, job: TrainingJob) -> None:
        if job.state not in FINAL:
            self._unfinished.add(job.name)
        if job.name in self._tasks:
            return
        match job.state:
            case TrainingJob.VALIDATING:
                self._start(job.name, self._examine(job))
            case TrainingJob.RUNNING | TrainingJob.PAUSING | TrainingJob.CANCELLING:
                # Its run died with the trainer, or its end could not be written down.
                self._start(job.name, self._conclude(job.name, job.epoch, _LOST))
            case state if state in FINAL and job.name in self._unfinished:
                self._start(job.name, self._tidy(job))

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guard(name, work), name=f"job {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        self._tasks.pop(name)
        self._runs.pop(name, None)
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

    async def _examine(self, job: TrainingJob) -> None:
        await self._events.tell_first(job.name, f"Created fine-tuning job: {id_of(job.name)}")
        try:
            examined = await self._examiner.examine(job)
        except TRANSIENT:
            raise
        except PlatformError as error:
            await self._fail(job.name, error)
            return

        def change(job: TrainingJob) -> TrainingJob | None:
            if job.state != TrainingJob.VALIDATING:
                return None
            job.resolved_hyperparameters.CopyFrom(examined.hyperparameters)
            job.preflight.CopyFrom(examined.preflight)
            return move(job, TrainingJob.QUEUED)

        if await self._update(job.name, change):
            await self._tell(job.name, "Files validated, moving job to queued state")

    async def _tune(self, name: str, give_back: asyncio.Event) -> None:
        try:
            base = await self._supervisor.base_of(await self._records.get(name))
        except TRANSIENT:
            raise
        except PlatformError as error:
            await self._fail(name, error)
            return

        job = None if give_back.is_set() else await self._update(name, claim)
        if job is None:
            return
        begun = "Fine-tuning job started" if job.epoch == 1 else "Fine-tuning job goes on"
        await self._tell(name, begun)
        with self._metrics.running.track_inprogress():
            ending = await self._supervisor.see_through(job, base, give_back)
        ending = replace(ending, preempted=give_back.is_set() and not self._draining)
        # The place is free now; what follows takes no device.
        self._runs.pop(name, None)
        self._wake.set()
        while True:
            try:
                await self._conclude(name, job.epoch, ending)
                return
            except TRANSIENT as error:  # looking again would take the run for lost
                logger.warning("end must wait", extra={"job": name, "cause": error.message})
                await asyncio.sleep(_RETRY_SECONDS)

    async def _conclude(self, name: str, epoch: int, ending: Ending) -> None:
        """Do what follows the end of the run of that epoch."""

        def change(job: TrainingJob) -> TrainingJob | None:
            return settle(job, ending) if job.epoch == epoch else None

        settled = await self._update(name, change)
        if settled is not None:
            cancelled = settled.state == TrainingJob.CANCELLED
            outcome = "gave_back" if ending.gave_back else "cancelled" if cancelled else "fault"
            self._metrics.runs.labels(outcome).inc()
            message, level = tell(settled, ending)
            await self._tell(name, message, level)
            return
        job = await self._records.get(name)
        if job.state in AT_WORK and job.HasField("result"):
            await self._publish(job)
        elif job.state == TrainingJob.FAILED and job.epoch == epoch:
            await self._tell_failed(job)  # the run itself said that it cannot be done

    async def _publish(self, job: TrainingJob) -> None:
        try:
            published = await self._publisher.publish(job)
        except TRANSIENT:
            raise
        except PlatformError as error:
            await self._fail(job.name, error)
            return

        if not await self._update(job.name, lambda job: succeed(job, published)):
            return
        await self._tell(job.name, "New fine-tuned model created")
        if published.gate_failure:
            message = f"The model is kept and not served: {published.gate_failure}"
            await self._tell(job.name, message, TrainingJobEvent.WARN)
        await self._tell(job.name, COMPLETED)
        base = await self._supervisor.base_of(job)
        await self._calibrations.record(job, base, job.result.measurement)

    async def _fail(self, name: str, error: PlatformError) -> None:
        def change(job: TrainingJob) -> TrainingJob | None:
            if TrainingJob.FAILED not in NEXT.get(job.state, ()):
                return None  # somebody has ended or paused it meanwhile
            job.error.CopyFrom(to_status(error))
            return move(job, TrainingJob.FAILED)

        job = await self._update(name, change)
        if job is not None:
            await self._tell_failed(job)

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

    async def _tell_end(self, job: TrainingJob) -> None:
        message, level = end_of(job)
        if not self._events.holds(job.name, message):
            await self._tell(job.name, message, level)

    async def _tell_failed(self, job: TrainingJob) -> None:
        await self._tell(job.name, f"The job failed: {job.error.message}", TrainingJobEvent.ERROR)

    async def _tell(
        self, name: str, message: str, level: TrainingJobEvent.Level = TrainingJobEvent.INFO
    ) -> None:
        """Add an event; what has happened has happened also when it cannot be told."""
        try:
            await self._events.tell(name, message, level=level)
        except TRANSIENT as error:
            logger.warning("not told: %s", message, extra={"job": name, "cause": error.message})

    async def _tidy(self, job: TrainingJob) -> None:
        """Let go of what an ended job has here, on the disk and in the store."""
        await self._supervisor.clear(job.name)
        self._unfinished.discard(job.name)
        self._metrics.jobs.labels(State.Name(job.state)).inc()
        self._events.forget(job.name)
