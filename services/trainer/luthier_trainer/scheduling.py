"""Which job runs next: a pure function of the jobs, the device and the time.

Priority goes first. Within a priority projects share: next is the project with the fewest runs,
then the one that has waited longest for a run, then its oldest job. A project that has never had a
run waits since its job came, so newcomers cannot keep the others waiting for ever.

A running job yields its place only to a strictly higher priority.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A job that waits for a place."""

    name: str
    project: str
    priority: int
    create_time: float
    """Seconds since the epoch, as all times here."""
    seconds: float | None = None
    """How long it will hold the device; None when nobody knows."""
    memory_bytes: int = 0
    """The least that it needs of the device's memory; 0 when nobody knows."""


@dataclass(frozen=True)
class Running:
    """A job that holds a place."""

    name: str
    project: str
    priority: int
    start_time: float
    seconds_left: float | None = None
    ending: bool = False
    """It has been asked to give its place back, or does so by itself."""


@dataclass(frozen=True)
class Capacity:
    """What there is to share."""

    runs: int
    """Places: runs at the same time."""
    memory_bytes: int | None = None
    """Memory of the device that a run gets; None when nobody knows."""


@dataclass(frozen=True)
class Place:
    """Where a waiting job stands."""

    position: int
    """1 is next."""
    start_time: float | None
    """When it is expected to start; None when that hangs on something that nobody knows."""


@dataclass(frozen=True)
class Plan:
    """What to do now, and what is expected."""

    start: tuple[str, ...]
    """Jobs to start now, in this order."""
    preempt: tuple[str, ...]
    """Running jobs to ask for their places."""
    places: Mapping[str, Place]
    """The whole queue, in its order; a job that does not fit the device is not in it."""


def plan(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    served: Mapping[str, float],
    capacity: Capacity,
    now: float,
) -> Plan:
    """Decide; `served` tells when each project last had a run."""
    memory = capacity.memory_bytes
    fitting = [job for job in waiting if memory is None or job.memory_bytes <= memory]
    queue = _simulate(fitting, running, served, capacity, now)
    free = max(0, capacity.runs - len(running))
    return Plan(
        start=tuple(job.name for job, _ in queue[:free]),
        preempt=_victims([job for job, _ in queue[free:]], running),
        places={
            job.name: Place(position, None if math.isinf(start) else start)
            for position, (job, start) in enumerate(queue, start=1)
        },
    )


def _victims(queue: Sequence[Waiting], running: Sequence[Running]) -> tuple[str, ...]:
    """Running jobs whose places the head of the queue takes, beside those that end anyway."""
    by_worth = sorted(
        (job for job in running if not job.ending), key=lambda job: (job.priority, -job.start_time)
    )
    ending = len(running) - len(by_worth)
    victims = []
    for candidate, victim in zip(queue[ending:], by_worth, strict=False):
        if victim.priority >= candidate.priority:
            break
        victims.append(victim.name)
    return tuple(victims)


def _simulate(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    served: Mapping[str, float],
    capacity: Capacity,
    now: float,
) -> list[tuple[Waiting, float]]:
    """List scheduling (Graham 1969): each place that falls free goes to the best job then.

    A run of unknown length is taken to end after all others, at infinity; what starts behind it
    has no estimate, but keeps its order.
    """
    sequence = itertools.count()
    at_work = Counter(job.project for job in running)
    # A time and a number: at infinity the numbers tell which was earlier.
    last = {project: (time, next(sequence)) for project, time in served.items()}
    ends = [
        (now + _or_unknown(job.seconds_left), next(sequence), job.project)
        for job in sorted(running, key=lambda job: job.start_time)
    ]
    heapq.heapify(ends)
    lines = _lines(waiting)
    queue, clock = [], now

    def urgency(project: str) -> tuple[int, int, tuple[float, int], float, str]:
        job = lines[project][-1]
        since = max(last.get(project, (-math.inf, -1)), (job.create_time, -1))
        return -job.priority, at_work[project], since, job.create_time, job.name

    while lines:
        if ends and len(ends) >= capacity.runs:
            clock, _, project = heapq.heappop(ends)
            at_work[project] -= 1
            last[project] = (clock, next(sequence))
            continue
        project = min(lines, key=urgency)
        job = lines[project].pop()
        if not lines[project]:
            del lines[project]
        queue.append((job, clock))
        at_work[project] += 1
        last[project] = (clock, next(sequence))
        heapq.heappush(ends, (clock + _or_unknown(job.seconds), next(sequence), project))
    return queue


def _lines(waiting: Sequence[Waiting]) -> dict[str, list[Waiting]]:
    """The waiting jobs of each project, its next one last."""
    lines: dict[str, list[Waiting]] = {}
    for job in sorted(
        waiting, key=lambda job: (-job.priority, job.create_time, job.name), reverse=True
    ):
        lines.setdefault(job.project, []).append(job)
    return lines


def _or_unknown(seconds: float | None) -> float:
    return math.inf if seconds is None else max(0.0, seconds)
