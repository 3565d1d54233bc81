"""Waiting for something to become true, instead of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(check: Callable[[], Awaitable[T]], timeout: float = 10.0) -> T: ...


@overload
async def eventually(check: Callable[[], T], timeout: float = 10.0) -> T: ...


async def eventually(check: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Return the first truthy result of `check`; an AssertionError in it means not yet."""
    deadline = time.monotonic() + timeout
    while True:
        problem: AssertionError | None = None
        try:
            result = check()
            value = await result if inspect.isawaitable(result) else result
            if value:
                return value
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout} s") from problem
        await asyncio.sleep(0.02)
