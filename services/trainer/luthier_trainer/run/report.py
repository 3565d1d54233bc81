"""What a run says while it works: written by the training thread, passed on beside it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.trainer.v1.run_service_pb2 import CompleteRunRequest, ReportRunRequest
from luthier.trainer.v1.training_job_pb2 import TrainingProgress, TrainingResult
from luthier_common.errors import (
    Aborted,
    DeadlineExceeded,
    NotFound,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.rpc.status import to_status

if TYPE_CHECKING:
    # The typed side of the stub exists for type checkers only.
    from luthier.trainer.v1.run_service_pb2_grpc import RunServiceAsyncStub

TRANSIENT = (Unavailable, DeadlineExceeded, ResourceExhausted)
"""Errors that waiting cures."""
_STALE = "STALE_EPOCH"
_REPORT_SECONDS = 1.0
_START_SECONDS = 1800.0
_COMPLETE_SECONDS = 60.0
"""How long the trainer may be away while a run wants to commit."""

logger = logging.getLogger(__name__)


def is_over(error: PlatformError, job: str) -> bool:
    """Whether an answer says that this run is no longer the job's, or that there is no such job.

    That anything else was not found says nothing of the job.
    """
    if isinstance(error, NotFound):
        return error.metadata.get("resource") == job
    return _is_stale(error)


def is_transient(error: PlatformError) -> bool:
    """Whether an error is one that waiting cures; so is a record that too many write at once."""
    return isinstance(error, (*TRANSIENT, Aborted)) and not _is_stale(error)


def _is_stale(error: PlatformError) -> bool:
    return isinstance(error, Aborted) and error.reason == _STALE


class Stopped(Exception):
    """The run was told to stop: nobody wants its result."""


class GaveBack(Exception):
    """The run was told to give its device back; it has saved its state."""


@dataclass(frozen=True)
class Snapshot:
    """An adapter that is published while the run goes on."""

    step: int
    files: list[Path]
    metrics: dict[str, float]


class Board:
    """The latest figures and words of a run; safe to use from its training thread."""

    def __init__(self) -> None:
        self.progress = TrainingProgress()
        """Replaced, never changed."""
        self.beats = 0
        """Counts signs of life; between steps there are none but these."""
        self.messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.pause = threading.Event()
        """Set when the run must save its state and end."""
        self.hurry = threading.Event()
        """Set when it must do so within seconds, or be killed."""
        self.states: queue.SimpleQueue[Path] = queue.SimpleQueue()
        """Resume states that were saved and are to be committed, oldest first."""
        self.snapshots: queue.SimpleQueue[Snapshot] = queue.SimpleQueue()
        """Adapters that are to be published, oldest first."""

    def say(self, message: str) -> None:
        """Have a sentence listed with the job's events."""
        logger.info(message)
        self.messages.put(message)

    def give_back(self) -> None:
        """Have the run save its state and end, within seconds."""
        self.hurry.set()
        self.pause.set()

    def check(self) -> None:
        """Stopped or GaveBack, once the run has been told to."""
        if self.stop.is_set():
            raise Stopped
        if self.pause.is_set():
            raise GaveBack


class Reporter:
    """Passes on what is on the board; a report that fails never ends a run."""

    def __init__(self, stub: RunServiceAsyncStub, job: str, epoch: int, board: Board) -> None:
        self._stub = stub
        self._job = job
        self._epoch = epoch
        self._board = board
        self._unsaid: list[str] = []
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Report every second until told to stop, or cancelled.

        Only while there are signs of life: a run whose training hangs must fall silent, so that
        it is noticed. Before the first step they may be half an hour apart.
        """
        beats, since = -1, time.monotonic()
        while not self._board.stop.is_set():
            if beats != self._board.beats:
                beats, since, alive = self._board.beats, time.monotonic(), True
            else:
                starts = not self._board.progress.step
                alive = starts and time.monotonic() - since < _START_SECONDS
            try:
                if alive:
                    # To its end, also when this is cancelled: what the trainer has recorded of a
                    # report that breaks off, it would tell nobody.
                    await asyncio.shield(self.report())
            except PlatformError as error:
                if is_over(error, self._job):
                    self._board.stop.set()
                logger.warning("report failed", extra={"cause": error.message})
            await asyncio.sleep(_REPORT_SECONDS)

    async def report(self) -> None:
        """Report once; the messages stay until a report has taken them."""
        async with self._lock:
            while not self._board.messages.empty():
                self._unsaid.append(self._board.messages.get())
            request = ReportRunRequest(
                training_job=self._job,
                epoch=self._epoch,
                progress=self._board.progress,
                messages=self._unsaid,
            )
            response = await self._stub.ReportRun(request)
            self._unsaid.clear()
        if response.stop:
            logger.info("told to stop", extra={"job": self._job})
            self._board.stop.set()
        if response.pause:
            self._board.pause.set()

    async def succeed(self, result: TrainingResult) -> None:
        """Commit the result, after a last report."""
        await self._complete(result=result)

    async def fail(self, error: PlatformError) -> None:
        """Commit that the job cannot be done."""
        await self._complete(error=error)

    async def _complete(
        self, *, result: TrainingResult | None = None, error: PlatformError | None = None
    ) -> None:
        request = CompleteRunRequest(
            training_job=self._job,
            epoch=self._epoch,
            result=result,
            error=None if error is None else to_status(error),
        )
        async with asyncio.timeout(_COMPLETE_SECONDS):
            while True:
                try:
                    await self._last_report()
                    await self._stub.CompleteRun(request)
                    return
                except PlatformError as away:
                    if not is_transient(away):
                        raise
                    logger.warning("commit must wait", extra={"cause": away.message})
                    await asyncio.sleep(_REPORT_SECONDS)

    async def _last_report(self) -> None:
        """The figures of the last step; a result is not thrown away for want of them."""
        try:
            await self.report()
        except PlatformError as error:
            logger.warning("report failed", extra={"cause": error.message})
