"""One place of a fleet: its engine is started when it is needed, and again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import PlatformError, ResourceExhausted, Unavailable
from luthier_common.rpc.status import RETRY_AFTER

from luthier_inference.engines.port import Engine
from luthier_inference.metrics import Metrics

_BACKOFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_STABLE_SECONDS = 60.0
"""An engine that has lived for so long is started again at once when it ends."""
_NOTICE_SECONDS = 1.0
_PATIENCE_SECONDS = 2.0
"""A call waits so long for the next try; before a later one it is refused."""

logger = logging.getLogger(__name__)


class Replica:
    """An engine of one base model, or the place for one."""

    def __init__(
        self,
        base: BaseModel,
        place: str,
        start: Callable[[], Awaitable[Engine]],
        metrics: Metrics,
        *,
        eager: bool,
    ) -> None:
        """`eager`: tried again by itself also when its first start fails."""
        self.base = base
        self.place = place
        self.calls = 0
        """Calls in flight, those included that wait for its start."""
        self.used_at = time.monotonic()
        """When a call last began or ended, in seconds of the monotonic clock."""
        self._start = start
        self._metrics = metrics
        self._eager = eager
        self._engine: Engine | None = None
        self._starting: asyncio.Task[Engine] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._failures = 0
        self._failure: PlatformError | None = None
        self._retry_at = 0.0

    @property
    def engine(self) -> Engine | None:
        """The engine, while it takes calls."""
        return self._engine if self._engine is not None and self._engine.alive else None

    @property
    def occupied(self) -> bool:
        """Whether there is an engine, or one is about to be."""
        return self._engine is not None or self._starting is not None

    @property
    def adapters(self) -> frozenset[str]:
        """Digests of the adapters it holds."""
        return self._engine.adapters if self._engine is not None else frozenset()

    @property
    def retry_at(self) -> float:
        """Before when it is not started again, in seconds of the monotonic clock."""
        return self._retry_at

    async def running(self) -> Engine:
        """Return the engine, starting it if need be; PlatformError says why it does not start."""
        engine = self.engine
        if engine is not None:
            return engine
        if self._starting is None:
            self._check_backoff()
            self._starting = self._task(self._begin())
            self._starting.add_done_callback(self._started)
        # A caller who leaves must not end the start that others await.
        return await asyncio.shield(self._starting)

    @contextlib.asynccontextmanager
    async def call(self) -> AsyncGenerator[Engine, None]:
        """Give the engine for one call."""
        self.calls += 1
        self.used_at = time.monotonic()
        try:
            yield await self.running()
        finally:
            self.calls -= 1
            self.used_at = time.monotonic()

    async def notice_end(self) -> None:
        """Wait, for a moment, to see whether the engine has ended."""
        engine = self.engine
        if engine is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NOTICE_SECONDS):
                    await engine.ended()

    async def stop(self) -> None:
        """End the engine and leave the place free."""
        tasks = [task for task in (self._starting, self._keeping) if task is not None]
        for task in tasks:
            task.cancel()
        engine, self._engine = self._engine, None
        if tasks:
            await asyncio.wait(tasks)
        if engine is not None:
            await engine.stop()

    def _check_backoff(self) -> None:
        seconds = self._retry_at - time.monotonic()
        if self._failure is not None and seconds > _PATIENCE_SECONDS:
            failure = self._failure
            raise type(failure)(
                failure.message,
                reason=failure.reason,
                field=failure.field,
                metadata=failure.metadata | {RETRY_AFTER: f"{seconds:.1f}"},
            )

    async def _begin(self) -> Engine:
        await asyncio.sleep(self._retry_at - time.monotonic())
        try:
            engine = await self._start()
        except PlatformError:
            raise
        except Exception as error:
            logger.exception("no engine", extra={"base_model": self.base.name})
            message = f"the engine of {self.base.name} did not start; the service's log says why"
            raise Unavailable(message, reason="ENGINE_NOT_STARTED") from error
        self._engine = engine
        return engine

    def _started(self, task: asyncio.Task[Engine]) -> None:
        self._starting = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            if self._keeping is None or self._keeping.done():
                self._keeping = self._task(self._keep())
            return
        if isinstance(error, ResourceExhausted):
            return  # no failure of the engine's: there was no room to start it
        # Said here too, since every caller may have left.
        logger.error("no engine: %s", error, extra={"base_model": self.base.name})
        self._back_off(error)
        if self._eager and (self._keeping is None or self._keeping.done()):
            self._keeping = self._task(self._keep())

    async def _keep(self) -> None:
        """See the engine end, and start it again until it runs."""
        while True:
            engine = self._engine
            if engine is not None:
                began = time.monotonic()
                why = await engine.ended()
                self._lost(engine, why, time.monotonic() - began)
                await engine.stop()
            await asyncio.sleep(self._retry_at - time.monotonic())
            with contextlib.suppress(PlatformError):
                await self.running()

    def _lost(self, engine: Engine, why: str, seconds: float) -> None:
        self._metrics.restarts.inc()
        extra = {"base_model": self.base.name, "place": self.place, "why": why}
        logger.error("the engine was lost", extra=extra)
        if self._engine is engine:
            self._engine = None
        if seconds >= _STABLE_SECONDS:
            self._failures = 0
        self._back_off(Unavailable(f"the engine of {self.base.name} ended", reason="ENGINE_LOST"))

    def _back_off(self, error: BaseException) -> None:
        delay = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)]
        self._failures += 1
        self._failure = error if isinstance(error, PlatformError) else self._failure
        self._retry_at = time.monotonic() + delay

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        # A context of its own: the engine is not started in anybody's name.
        return asyncio.get_running_loop().create_task(work, context=Context())
