"""Callers who hang up while their answer is being made."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")

CALLER_GONE = 499
"""The status in logs and figures of a request whose caller hung up before an answer began."""


async def unless_hung_up(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns; None, and `work` is cancelled, when the caller hangs up first.

    The request's body must have been read.
    """
    working, gone = asyncio.create_task(work), asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
