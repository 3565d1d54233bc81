"""The builder: takes every BUILDING dataset to READY or FAILED, also after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from luthier.dataset.v1.dataset_pb2 import BuildProgress, Dataset
from luthier_common.disk import is_disk_full
from luthier_common.errors import Internal, NotFound, PlatformError, ResourceExhausted, Unavailable
from luthier_common.records.collection import Collection
from luthier_common.rpc.status import to_status

from luthier_dataset.build.make import Build, Rejected
from luthier_dataset.inference import TRANSIENT, Backoff
from luthier_dataset.metrics import Metrics

_CONCURRENT = 2
_PROGRESS_SECONDS = 1.0
"""Least time between two writes of a build's progress within a stage."""
_RESCAN_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Superseded(Exception):
    """The dataset is no longer this build's to write: deleted, made anew, or ended elsewhere."""


class Builder:
    """Looks for BUILDING datasets and builds them, a few at a time.

    A build that is run again goes on where it stopped, as long as the work folder is there; without
    it, it starts over. Two builders on one dataset do no harm: both store the same bytes and one
    writes the end.
    """

    def __init__(self, records: Collection[Dataset], build: Build, metrics: Metrics) -> None:
        self._records = records
        self._build = build
        self._metrics = metrics
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._clearing: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_CONCURRENT)
        self._closing = False

    async def run(self) -> None:
        """Build until cancelled."""
        changes = self._records.changes()
        await self._build.sweep(filter(_is_building, self._records.values()))
        try:
            while True:
                for dataset in self._records.values():
                    self._start(dataset)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RESCAN_SECONDS):
                        async for name in changes:
                            with contextlib.suppress(NotFound, Unavailable):
                                self._start(await self._records.get(name))
        finally:
            self._closing = True
            tasks = [*self._tasks.values(), *self._clearing]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, dataset: Dataset) -> None:
        name = dataset.name
        if dataset.HasField("delete_time") and name in self._tasks:
            # Nobody waits for it; another build may have its place.
            self._tasks[name].cancel()
        elif _is_building(dataset) and name not in self._tasks:
            task = asyncio.create_task(self._bring_to_end(name), name=f"build {name}")
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        if self._tasks.pop(name).cancelled() and not self._closing:
            # What the build of a deleted dataset left is cleared away all the same.
            task = asyncio.create_task(self._bring_to_end(name), name=f"clear {name}")
            self._clearing.add(task)
            task.add_done_callback(self._clearing.discard)

    async def _bring_to_end(self, name: str) -> None:
        backoff = Backoff()
        while True:
            try:
                async with self._slots:
                    dataset = await self._records.get(name)
                    if _is_building(dataset):
                        await self._attempt(dataset)
                        dataset = await self._records.get(name)
                    if not _is_building(dataset):
                        # Also what an attempt minted that did not come to its end.
                        await self._build.withdraw(dataset)
                        await self._build.forget(dataset)
                        return
            except NotFound:
                return
            except (*TRANSIENT, Superseded) as error:
                # Not the dataset's fault: what is away comes back. A superseded build looks
                # again, and finds that there is nothing to do.
                logger.info("build is tried again", extra={"dataset": name, "cause": repr(error)})
                if isinstance(error, PlatformError):
                    await self._waiting(name, error)
                await backoff.wait()

    async def _waiting(self, name: str, cause: PlatformError) -> None:
        """Say in the record what the build waits for, if the record can be reached."""
        with contextlib.suppress(PlatformError, Superseded):
            record = _Record(self._records, await self._records.get(name))
            await record.report(f"Waiting: {cause.message}", 0, 0)

    async def _attempt(self, dataset: Dataset) -> None:
        record = _Record(self._records, dataset)
        started = time.monotonic()
        try:
            outcome = await self._build.make(dataset, record.report)
        except (*TRANSIENT, Superseded):
            raise
        except Rejected as rejected:
            await record.fail(rejected.error, rejected.found)
        except PlatformError as error:
            await record.fail(error, await self._build.written(dataset))
        except Exception as error:
            if is_disk_full(error):
                message = "no room on the disk that builds work on"
                raise ResourceExhausted(message, reason="DISK_FULL") from error
            logger.exception("build failed", extra={"dataset": dataset.name})
            await record.fail(Internal("internal error", reason="INTERNAL"))
        else:
            await record.succeed(outcome)
            self._metrics.build_seconds.observe(time.monotonic() - started)
            self._metrics.builds.labels("READY").inc()
            return
        self._metrics.builds.labels("FAILED").inc()


class _Record:
    """The record of the dataset being built, as its build may write it."""

    def __init__(self, records: Collection[Dataset], dataset: Dataset) -> None:
        self._records = records
        self._dataset = dataset
        self._stage = ""
        self._due = 0.0

    async def report(self, stage: str, done: int, total: int) -> None:
        """Write progress, if the stage is new or enough time has passed; Superseded."""
        now = time.monotonic()
        if stage == self._stage and now < self._due:
            return
        self._stage, self._due = stage, now + _PROGRESS_SECONDS
        progress = BuildProgress(stage=stage, done=done, total=total)
        await self._write(lambda dataset: dataset.progress.CopyFrom(progress))

    async def succeed(self, outcome: Dataset) -> None:
        """Write the end of a build; Superseded."""

        def change(dataset: Dataset) -> None:
            dataset.MergeFrom(outcome)
            dataset.state = Dataset.State.READY
            dataset.ClearField("progress")

        await self._write(change)

    async def fail(self, error: PlatformError, found: Dataset | None = None) -> None:
        """Write why there is no end, and what was found all the same; Superseded."""

        def change(dataset: Dataset) -> None:
            if found is not None:
                dataset.MergeFrom(found)
            dataset.error.CopyFrom(to_status(error))
            dataset.state = Dataset.State.FAILED

        await self._write(change)

    async def _write(self, edit: Callable[[Dataset], None]) -> None:
        def change(dataset: Dataset) -> Dataset:
            mine = dataset.create_time == self._dataset.create_time
            if not mine or not _is_building(dataset):
                raise Superseded(dataset.name)
            edit(dataset)
            return dataset

        try:
            await self._records.update(self._dataset.name, change)
        except NotFound as error:
            raise Superseded(self._dataset.name) from error


def _is_building(dataset: Dataset) -> bool:
    return dataset.state == Dataset.State.BUILDING and not dataset.HasField("delete_time")
