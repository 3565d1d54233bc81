"""The engine's thread, which steps the model, and the event loop's side of it."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from luthier_common.errors import ResourceExhausted

from luthier_inference.engine.batcher import Batcher, Out
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.probing import ProbeRow, RowSeen
from luthier_inference.engine.row import Row

T = TypeVar("T")
_UNLOAD_PERIOD_SECONDS = 0.05
_RETRY_SECONDS = 5
_BLOCKED_SECONDS = 0.001
"""Between two looks for room when rows wait and none runs."""

logger = logging.getLogger(__name__)


class Scheduler:
    """Runs a batcher in a thread, from entering it as a context to leaving it."""

    def __init__(self, batcher: Batcher, *, waiting: int, batch_tokens: int) -> None:
        """`waiting` rows may wait; `batch_tokens` of texts are read at once for vectors."""
        self._batcher = batcher
        self._limit = waiting
        self._batch_tokens = batch_tokens
        self._inbox: deque[Row] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def waiting(self) -> int:
        """Rows that nobody reads or writes yet."""
        return len(self._inbox) + self._batcher.waiting

    @property
    def running(self) -> int:
        """Rows being read or written."""
        return self._batcher.running

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End after the step being computed; rows that are not over get no more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def submit(self, row: Row) -> None:
        """Have `row` written; ResourceExhausted when too many wait."""
        with self._changed:
            if self.waiting >= self._limit:
                raise ResourceExhausted(
                    "too many requests wait for this model; try again later",
                    reason="ENGINE_BUSY",
                    metadata={"retry_after_seconds": str(_RETRY_SECONDS)},
                )
            self._inbox.append(row)
            self._changed.notify()

    async def embed(
        self, rows: Sequence[Sequence[int]], weights: LoraWeights | None
    ) -> list[list[float]]:
        """Return vectors of rows of tokens, read some at a time between steps."""
        vectors: list[list[float]] = []
        while len(vectors) < len(rows):
            batch = _first(rows[len(vectors) :], self._batch_tokens)
            read = functools.partial(self._batcher.embed, batch, weights)
            vectors += await self.between_steps(read)
        return vectors

    async def examine(self, row: ProbeRow, weights: LoraWeights) -> RowSeen:
        """Read a row of an adapter's probe between two steps; ResourceExhausted."""
        return await self.between_steps(functools.partial(self._batcher.examine, row, weights))

    async def unload(self, digest: str) -> None:
        """Take an adapter off the device once its last answer has ended."""
        gone = False
        while not gone:
            gone = await self.between_steps(functools.partial(self._batcher.unload, digest))
            await asyncio.sleep(0 if gone else _UNLOAD_PERIOD_SECONDS)

    async def between_steps(self, job: Callable[[], T]) -> T:
        """Run a job that needs the model in the engine's thread, and return what it does."""
        done: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            try:
                settle = functools.partial(_settle, done, done.set_result, job())
            except Exception as error:
                settle = functools.partial(_settle, done, done.set_exception, error)
            self._loop.call_soon_threadsafe(settle)

        with self._changed:
            self._jobs.append(run)
            self._changed.notify()
        return await done

    def _run(self) -> None:
        try:
            while self._wait():
                out = self._batcher.step()
                if out:
                    self._loop.call_soon_threadsafe(_deliver, out)
        except BaseException:
            # What is left is not to be trusted. The router starts another process.
            logger.critical("the engine's thread broke", exc_info=True)
            os.abort()

    def _wait(self) -> bool:
        """Take in what has arrived, waiting for it when there is nothing to do; False to end."""
        with self._changed:
            while not (
                self._stopping
                or self._inbox
                or self._jobs
                or self._batcher.running
                or self._batcher.waiting
            ):
                self._changed.wait()
            arrived = list(self._inbox)
            self._inbox.clear()
            job = self._jobs.popleft() if self._jobs else None
        for row in arrived:
            self._batcher.add(row)
        if job is not None:
            job()
        elif not (arrived or self._batcher.running):
            time.sleep(_BLOCKED_SECONDS)
        return not self._stopping


def _deliver(out: Out) -> None:
    for row, piece in out:
        row.pieces.put_nowait((row, piece))


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if not done.cancelled():
        settle(value)


def _first(rows: Sequence[Sequence[int]], most: int) -> Sequence[Sequence[int]]:
    """Return the first rows, at least one, that have at most so many tokens between them."""
    count, tokens = 0, 0
    while count < len(rows) and (not count or tokens + len(rows[count]) <= most):
        tokens += len(rows[count])
        count += 1
    return rows[:count]
