"""The official SDK, one half or the other, behind one face for tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from tests.support.gateway import KEY, RunningGateway

Half = Literal["async", "sync"]


class Sdk:
    """Runs a piece of code that uses a client; `OpenAI` in a thread, `AsyncOpenAI` right here."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def __call__(self, work: Callable[[Any], Any]) -> Any:
        """Return what one call returns."""
        return await _result(work, self._client)

    async def all(self, work: Callable[[Any], Any]) -> list[Any]:
        """Return all items of what a call returns: of a list page by page, or of a stream."""
        if not hasattr(self._client, "__aenter__"):
            return await asyncio.to_thread(lambda: list(work(self._client)))
        found = work(self._client)
        if inspect.iscoroutine(found):
            found = await found
        return [item async for item in found]


async def _result(work: Callable[[Any], Any], client: Any) -> Any:
    if not hasattr(client, "__aenter__"):
        return await asyncio.to_thread(work, client)
    found = work(client)
    return await found if inspect.isawaitable(found) else found


@asynccontextmanager
async def official_sdk(gateway: RunningGateway, half: Half, key: str = KEY) -> AsyncIterator[Sdk]:
    """Open one half of the SDK with a key."""
    if half == "async":
        async with gateway.client(key) as client:
            yield Sdk(client)
    else:
        with gateway.sync_client(key) as client:
            yield Sdk(client)
