"""Lifespan: from settings to a serving process, and its orderly end on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import Context
from types import TracebackType
from typing import Any, Self, TypeVar

from luthier_common.errors import PlatformError
from luthier_common.health import Health, StatusEndpoint
from luthier_common.logs import configure_logs
from luthier_common.metrics import new_registry
from luthier_common.settings import ServiceSettings, SettingsError, load

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")
Build = Callable[[S, "Lifespan"], Awaitable[object]]
"""A composition root: opens everything on the lifespan, the gRPC server last."""

_CANCEL_AGAIN_SECONDS = 15.0
"""Longer than a task may need to close what it has open."""

logger = logging.getLogger(__name__)


class Lifespan:
    """What a process has open, closed in reverse order when it is left."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.health = Health()
        self.stopping = asyncio.Event()
        self.failed = False
        self._stack = AsyncExitStack()

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Open `manager`, to be closed at its turn, and return what it gives."""
        return await self._stack.enter_async_context(manager)

    def callback(self, close: Callable[[], Awaitable[object]]) -> None:
        """Have `close` awaited at its turn."""
        self._stack.push_async_callback(close)

    def spawn(self, work: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[object]:
        """Run `work` until its turn to be cancelled comes; its failure ends the process."""
        # A fresh context: work that outlives a call must not go on in its caller's name.
        task = asyncio.get_running_loop().create_task(work, name=name, context=Context())
        task.add_done_callback(self._ended)
        self._stack.push_async_callback(_cancel, task)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("task failed", extra={"task": task.get_name()}, exc_info=error)
            self.failed = True
            self.stopping.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.health.ready = False
        self.stopping.set()
        await self._stack.aclose()


async def _cancel(task: asyncio.Task[object]) -> None:
    # More than once: libraries that wait with `asyncio.wait_for` may lose a cancellation before
    # Python 3.12.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)


def run_service(service: str, settings_class: type[S], build: Build[S]) -> int:
    """Run a service until it is told to stop.

    Returns the exit code: 0 after an orderly end, 1 when something failed, 2 for bad settings.
    """
    try:
        settings = load(settings_class)
    except SettingsError as error:
        print(f"luthier {service}: {error}", file=sys.stderr)
        return 2
    configure_logs(service, settings.log_level)
    try:
        return asyncio.run(_serve(settings, build))
    except PlatformError as error:
        logger.critical(error.message, extra={"reason": error.reason})
        return 1
    except Exception as error:
        logger.critical(f"the service failed: {error}", exc_info=True)
        return 1


async def _serve(settings: S, build: Build[S]) -> int:
    async with Lifespan() as lifespan:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lifespan.stopping.set)
        endpoint = StatusEndpoint(
            settings.metrics_address, registry=lifespan.registry, health=lifespan.health
        )
        await lifespan.enter(endpoint)
        if await _built(build(settings, lifespan), lifespan.stopping):
            lifespan.health.ready = True
            logger.info("ready", extra={"metrics_address": endpoint.address})
            await lifespan.stopping.wait()
        logger.info("stopping", extra={"drain_seconds": settings.drain_seconds})
    logger.info("stopped")
    return 1 if lifespan.failed else 0


async def _built(building: Awaitable[object], stopping: asyncio.Event) -> bool:
    """Whether the build came to its end before the order to stop."""
    build = asyncio.ensure_future(building)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([build, stop], return_when=asyncio.FIRST_COMPLETED)
        if build.done():
            build.result()
            return True
        build.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await build
        return False
    finally:
        stop.cancel()
