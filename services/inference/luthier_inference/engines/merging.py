"""Several answers as one stream, for engines that write one answer a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from luthier.inference.v1.engine_service_pb2 import GenerateResponse
from luthier_common.errors import PlatformError


async def merged(
    answers: Sequence[AsyncGenerator[GenerateResponse, None]],
) -> AsyncGenerator[GenerateResponse, None]:
    """Yield the pieces of several answers as they come; the first failure ends them all."""
    if len(answers) == 1:
        async with contextlib.aclosing(answers[0]) as pieces:
            async for piece in pieces:
                yield piece
        return
    queue: asyncio.Queue[GenerateResponse | PlatformError | None] = asyncio.Queue(len(answers))

    async def read(answer: AsyncGenerator[GenerateResponse, None]) -> None:
        try:
            async with contextlib.aclosing(answer) as pieces:
                async for piece in pieces:
                    await queue.put(piece)
            await queue.put(None)
        except PlatformError as error:
            await queue.put(error)

    readers = [asyncio.create_task(read(answer)) for answer in answers]
    missing = len(readers)
    try:
        while missing:
            item = await queue.get()
            if isinstance(item, PlatformError):
                raise item
            if item is None:
                missing -= 1
            else:
                yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
