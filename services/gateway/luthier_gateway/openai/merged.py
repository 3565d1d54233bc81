"""Several streams of pieces as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")

_AHEAD = 64  # pieces; a reader that is slower slows the writers down
_AT_ONCE = 32  # streams; the others wait, so that one request does not fill an owner's queue


async def merged(streams: Sequence[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    """Yield `(index of its stream, piece)` as pieces come, until every stream has ended.

    The first failure of a stream ends all of them and is raised; so does closing this iterator.
    """
    queue: asyncio.Queue[tuple[int, Any] | Exception | None] = asyncio.Queue(_AHEAD)
    places = asyncio.Semaphore(_AT_ONCE)

    async def pump(index: int, stream: Any) -> None:
        try:
            async with places, aclosing(stream):
                async for piece in stream:
                    await queue.put((index, piece))
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(*numbered)) for numbered in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
