"""The scheduler: collects waiting requests into batches and lets the worker thread run them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from luthier_common.errors import ResourceExhausted

from luthier_inference.engine.batch import Batch
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.engine.model import Model
from luthier_inference.engine.row import Row, failed

ROWS = 32
"""Most rows of a batch."""

_WAITING_LIMIT = 1000

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Scheduler:
    """Runs one batch after the other; requests that come meanwhile make up the next.

    Torch works in one thread, so that the event loop stays free.
    """

    def __init__(self, model: Model, end_tokens: frozenset[int], metrics: EngineMetrics) -> None:
        self._model = model
        self._end_tokens = end_tokens
        self._metrics = metrics
        self._waiting: deque[Row] = deque()
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="torch")

    def submit(self, row: Row) -> None:
        """Have `row` written with the next batch; ResourceExhausted when too many wait."""
        if len(self._waiting) >= _WAITING_LIMIT:
            raise ResourceExhausted(
                "too many requests wait for this model; try again later", reason="ENGINE_BUSY"
            )
        self._waiting.append(row)
        self._arrived.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                rows = self._take()
                if rows:
                    await self._write(rows)
        finally:
            self._worker.shutdown(wait=False)

    def _take(self) -> list[Row]:
        rows: list[Row] = []
        while self._waiting and len(rows) < ROWS:
            row = self._waiting.popleft()
            if not row.cancelled:
                rows.append(row)
        if not self._waiting:
            self._arrived.clear()
        return rows

    async def _write(self, rows: list[Row]) -> None:
        """Write all rows to their ends; whatever breaks ends these rows only."""
        unfinished = set(rows)
        try:
            errors = await self._work(lambda: self._model.load([row.adapter for row in rows]))
            fit = []
            for row in rows:
                if row.adapter is not None and row.adapter.digest in errors:
                    row.pieces.put_nowait(errors[row.adapter.digest])
                    unfinished.discard(row)
                else:
                    fit.append(row)
            if not fit:
                return
            self._metrics.rows.observe(len(fit))
            batch = await self._work(lambda: Batch(self._model, fit, self._end_tokens))
            while batch.rows:
                for row, piece in await self._work(batch.step):
                    row.pieces.put_nowait(piece)
                    self._metrics.tokens.inc()
                    if piece.finish is not None:
                        unfinished.discard(row)
        except Exception:
            logger.exception("a batch failed", extra={"rows": len(unfinished)})
            for row in unfinished:
                row.pieces.put_nowait(failed())

    async def _work(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)
