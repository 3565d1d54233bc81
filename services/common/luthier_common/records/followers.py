"""Reading a stream to the end and beyond, at least once, through any restart of NATS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Self

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from luthier_common.errors import PlatformError, Unavailable

_log = logging.getLogger(__name__)

BATCH = 256
_OPEN_SECONDS = 15.0
_IDLE_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_LONGEST_REDELIVERY_SECONDS = 30.0
_CANCEL_AGAIN_SECONDS = 1.0

Handler = Callable[[Sequence[Msg]], Awaitable[Sequence[Msg]]]
"""Takes a batch, returns the messages that are done; the others come again later."""


class Pull:
    """An open consumer of one stream."""

    def __init__(self, source: JetStreamContext.PullSubscription, waiting: int) -> None:
        self._source = source
        self.waiting = waiting
        """Messages that waited when the consumer was opened."""

    async def next(self, *, gather: float, batch: int = BATCH) -> list[Msg]:
        """Return the next messages, or none after two idle seconds.

        After the first, up to `batch` are collected for at most `gather` seconds.
        """
        try:
            messages = await self._source.fetch(1, timeout=_IDLE_SECONDS)
        except TimeoutError:
            return []
        more_wait = messages[0].metadata.num_pending > 0
        if batch > 1 and (gather > 0 or more_wait):
            with contextlib.suppress(TimeoutError):
                messages += await self._source.fetch(batch - 1, timeout=max(gather, 0.05))
        return messages


@contextlib.asynccontextmanager
async def pull(js: JetStreamContext, stream: str, config: ConsumerConfig) -> AsyncIterator[Pull]:
    """Open the durable consumer of `config`, or one that is deleted at the end."""
    name = config.durable_name or secrets.token_hex(8)
    info = await js.add_consumer(stream, config.evolve(name=name))
    source = await js.pull_subscribe_bind(consumer=name, stream=stream)
    try:
        yield Pull(source, info.num_pending or 0)
    finally:
        # Best effort: NATS forgets an abandoned consumer by itself.
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await source.unsubscribe()
            if config.durable_name is None:
                await js.delete_consumer(stream, name)


class Follower:
    """A task that hands a consumer's messages to `handle`, as an async context manager.

    `handle` must be idempotent. What it does not finish is delivered again, after a growing
    pause. `before` runs each time the consumer is opened and may refuse by raising. Entering
    waits until the consumer is open; Unavailable after 15 seconds.
    """

    def __init__(
        self,
        js: JetStreamContext,
        stream: str,
        config: ConsumerConfig,
        handle: Handler,
        *,
        gather: float = 0.0,
        batch: int = BATCH,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._js = js
        self._stream = stream
        self._config = config
        self._handle = handle
        self._gather = gather
        self._batch = batch
        self._before = before
        self._opened = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"follow {self._stream}")
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._opened.wait()
        except BaseException as error:
            await stop(self._task)
            if isinstance(error, TimeoutError):
                message = f"{self._stream} in NATS cannot be read"
                raise Unavailable(message, reason="NATS_UNREACHABLE") from error
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await stop(self._task)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (nats.errors.Error, PlatformError, TimeoutError, OSError) as error:
                _log.warning("reading %s is interrupted: %s", self._stream, error)
            except Exception:
                _log.exception("reading %s failed", self._stream)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        if self._before is not None:
            await self._before()
        async with pull(self._js, self._stream, self._config) as source:
            self._opened.set()
            while True:
                messages = await source.next(gather=self._gather, batch=self._batch)
                if messages:
                    await self._deliver(messages)

    async def _deliver(self, messages: Sequence[Msg]) -> None:
        done: set[int] = set()
        try:
            done = {message.metadata.sequence.stream for message in await self._handle(messages)}
        except Exception:
            _log.exception("handling %d messages of %s failed", len(messages), self._stream)
        for message in messages:
            if message.metadata.sequence.stream in done:
                await message.ack()
            else:
                await message.nak(delay=_pause(message.metadata.num_delivered))


def _pause(deliveries: int) -> float:
    return min(_RETRY_SECONDS * 2.0 ** min(deliveries, 10), _LONGEST_REDELIVERY_SECONDS)


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel the task and wait until it has ended."""
    # More than once: nats-py waits with `asyncio.wait_for`, which before Python 3.12 loses a
    # cancellation that arrives together with what it waits for.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)
