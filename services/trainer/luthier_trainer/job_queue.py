"""The queue as the records tell it: what the scheduler is given, and what callers are shown.

A job's place is worked out whenever it is asked for; no record holds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Set

from google.protobuf.timestamp_pb2 import Timestamp
from luthier.trainer.v1.preflight_pb2 import DeviceFit
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.names import project_of
from luthier_common.records.collection import Collection

from luthier_trainer.scheduling import Capacity, Plan, Running, Waiting, plan

_WITH_RUN = frozenset({TrainingJob.RUNNING, TrainingJob.PAUSING, TrainingJob.CANCELLING})
_GOES_ON = frozenset({TrainingJob.QUEUED, TrainingJob.RUNNING})
"""States of a job that holds a place and will not give it back by itself."""


class JobQueue:
    """Plans for the jobs of all projects on this machine's device."""

    def __init__(
        self,
        records: Collection[TrainingJob],
        capacity: Capacity,
        *,
        device_class: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`device_class` is the one that estimates of time are for; "" when nobody knows it."""
        self._records = records
        self._capacity = capacity
        self._device_class = device_class
        self._clock = clock

    def plan(
        self,
        jobs: Iterable[TrainingJob],
        *,
        holding: Set[str] | None = None,
        yielding: Set[str] = frozenset(),
    ) -> Plan:
        """Plan for all `jobs`.

        Those in `holding` hold a place whatever their records say, and no others have a run any
        more; without it the records are believed. Those in `yielding` have been asked to give
        their place back.
        """
        waiting, running = [], []
        served: dict[str, float] = {}
        for job in jobs:
            project = project_of(job.name)
            served[project] = max(served.get(project, 0.0), _last_served(job))
            holds = holding is not None and job.name in holding
            if holds or (job.state in _WITH_RUN and not job.HasField("result")):
                lost = holding is not None and not holds
                running.append(self._running(job, yields=lost or job.name in yielding))
            elif job.state == TrainingJob.QUEUED:
                waiting.append(self._waiting(job))
        return plan(waiting, running, served, self._capacity, self._clock())

    def show(self, *jobs: TrainingJob) -> None:
        """Fill in where the QUEUED ones among `jobs` stand."""
        queued = [job for job in jobs if job.state == TrainingJob.QUEUED]
        if not queued:
            return
        places = self.plan(self._records.values()).places
        for job in queued:
            place = places.get(job.name)
            if place is None:
                continue  # it does not fit the device, or has just moved on
            job.queue_position = place.position
            if place.start_time is not None:
                job.estimated_start_time.FromMilliseconds(round(place.start_time * 1000))

    def _waiting(self, job: TrainingJob) -> Waiting:
        return Waiting(
            name=job.name,
            project=project_of(job.name),
            priority=job.priority,
            create_time=_seconds(job.create_time),
            seconds=self._seconds_left(job),
            memory_bytes=job.preflight.least_memory_bytes,
        )

    def _running(self, job: TrainingJob, *, yields: bool) -> Running:
        goes_on = job.state in _GOES_ON and not job.HasField("result")
        ending = yields or not goes_on
        return Running(
            name=job.name,
            project=project_of(job.name),
            priority=job.priority,
            start_time=_seconds(job.start_time),
            seconds_left=0.0 if ending else self._seconds_left(job),
            ending=ending,
        )

    def _seconds_left(self, job: TrainingJob) -> float | None:
        if job.progress.step:
            return job.progress.seconds_left
        fits: dict[str, DeviceFit] = {fit.device_class: fit for fit in job.preflight.chosen.devices}
        fit = fits.get(self._device_class)
        return fit.seconds if fit is not None and fit.HasField("seconds") else None


def _last_served(job: TrainingJob) -> float:
    """When a job last had a run, as far as its record tells; 0 when it never had one."""
    if not job.HasField("start_time"):
        return 0.0
    moments = (job.start_time, job.end_time, job.resume_state.create_time)
    return max(_seconds(moment) for moment in moments)


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9
