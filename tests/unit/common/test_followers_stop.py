import asyncio
import contextlib

import pytest
from luthier_common.records import followers


async def test_a_task_that_loses_a_cancellation_is_stopped_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(followers, "_CANCEL_AGAIN_SECONDS", 0.01)
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        # What `asyncio.wait_for` does before Python 3.12 when both things happen at once.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    async with asyncio.timeout(5):
        await followers.stop(task)
    assert task.cancelled()
