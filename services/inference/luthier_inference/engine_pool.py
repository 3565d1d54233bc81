"""The engines that run: one for each base model in use, started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import Context
from typing import Any, Self

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import NotFound, PlatformError, ResourceExhausted
from luthier_common.records.collection import Collection

from luthier_inference.engine_process import Engine
from luthier_inference.metrics import Metrics
from luthier_inference.served import check_served

logger = logging.getLogger(__name__)

Start = Callable[[BaseModel], Awaitable[Engine]]
"""Starts an engine; Unavailable."""


class EnginePool:
    """Gives out engines, at most `limit` at a time; stops them all when left as a context."""

    def __init__(self, start: Start, *, limit: int, metrics: Metrics) -> None:
        self._start = start
        self._limit = limit
        self._metrics = metrics
        self._starting: dict[str, asyncio.Task[Engine]] = {}
        self._engines: dict[str, Engine] = {}
        self._watches: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._starting.values(), *self._watches]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))

    @contextlib.asynccontextmanager
    async def lease(self, base: BaseModel) -> AsyncGenerator[Engine, None]:
        """Give the engine for `base`, starting it if need be, for one call.

        Unavailable when it does not start, ResourceExhausted when all engines are busy.
        """
        engine = await self._running(base)
        async with engine.call():
            yield engine

    async def warm(self, base: BaseModel) -> None:
        """Have the engine for `base` run; a failure is only logged."""
        with contextlib.suppress(PlatformError):
            await self._running(base)

    async def _running(self, base: BaseModel) -> Engine:
        engine = self._engines.get(base.digest)
        if engine is not None and engine.alive:
            return engine
        task = self._starting.get(base.digest)
        if task is None:
            # A task of its own: a caller who leaves must not end the start that others await,
            # and the engine is not started in anybody's name.
            task = asyncio.create_task(self._begin(base), context=Context())
            self._starting[base.digest] = task
            task.add_done_callback(lambda ended: self._started(base, ended))
        return await asyncio.shield(task)

    def _started(self, base: BaseModel, task: asyncio.Task[Engine]) -> None:
        self._starting.pop(base.digest, None)
        if not task.cancelled() and task.exception() is not None:
            # Said here too, since every caller may have left.
            logger.error("no engine: %s", task.exception(), extra={"base_model": base.name})

    async def _begin(self, base: BaseModel) -> Engine:
        await self._make_room(base.digest)
        engine = await self._start(base)
        self._engines[base.digest] = engine
        self._metrics.engines.set(len(self._engines))
        watch = asyncio.create_task(self._watch(engine))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return engine

    async def _make_room(self, digest: str) -> None:
        """Stop the engines that have been idle for longest until one more fits."""
        while len(self._engines.keys() | self._starting.keys() | {digest}) > self._limit:
            idle = [engine for engine in self._engines.values() if engine.calls == 0]
            if not idle:
                raise ResourceExhausted(
                    "all engines are busy with other base models; try again later",
                    reason="ENGINES_BUSY",
                )
            longest = min(idle, key=lambda engine: engine.used_at)
            self._forget(longest)
            await longest.stop()

    async def _watch(self, engine: Engine) -> None:
        code = await engine.watch()
        if engine.stopped:
            return
        self._metrics.restarts.inc()
        logger.error(
            "the engine died",
            extra={"base_model": engine.base.name, "pid": engine.child.pid, "exit_code": code},
        )
        self._forget(engine)
        await engine.stop()
        await self.warm(engine.base)

    def _forget(self, engine: Engine) -> None:
        if self._engines.get(engine.base.digest) is engine:
            del self._engines[engine.base.digest]
        self._metrics.engines.set(len(self._engines))


async def keep_warm(
    engines: EnginePool, base_models: Collection[BaseModel], names: tuple[str, ...]
) -> None:
    """Have the engines of the named base models run, also of those imported later."""
    changes = base_models.changes()
    for name in names:
        await _warm(engines, base_models, name)
    async for name in changes:
        if name in names:
            await _warm(engines, base_models, name)


async def _warm(engines: EnginePool, base_models: Collection[BaseModel], name: str) -> None:
    try:
        base = await base_models.get(name)
        check_served(base)
        await engines.warm(base)
    except NotFound:
        return
    except PlatformError as error:
        logger.error("cannot preload %s: %s", name, error.message)
