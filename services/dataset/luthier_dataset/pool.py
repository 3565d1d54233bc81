"""A pool of child processes that take jobs; one that dies or hangs costs its own job only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from luthier_common.children import Child, spawn

_LONGEST_ANSWER = 64 * 1024 * 1024


def without_secrets() -> dict[str, str]:
    """Return this process's environment without the platform's addresses and secrets.

    Children read foreign bytes and run foreign chat templates, and need none of them.
    """
    return {key: value for key, value in os.environ.items() if not key.startswith("LUTHIER_")}


class ChildDied(Exception):
    """The child ended before it answered; `status` is its exit status, negative for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class Pool:
    """At most `size` children `python -m module arguments`, each working at one job at a time.

    Children are started when a job finds none idle, and live until the pool is closed.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        size: int,
        env: Mapping[str, str],
        quiet: bool = False,
    ) -> None:
        """`quiet` throws away what children write to standard error."""
        self._command = (sys.executable, "-m", module, *arguments)
        self._env = dict(env)
        self._stderr = DEVNULL if quiet else None
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Child] = []

    async def run(self, job: bytes, *, timeout: float | None = None) -> bytes:
        """Return the answer to a job (one line); ChildDied, or TimeoutError after `timeout`.

        A job that is cancelled or that takes too long takes its child along.
        """
        async with self._slots:
            child = await self._child()
            try:
                async with asyncio.timeout(timeout):
                    answer = await self._ask(child, job)
            except BaseException:
                child.kill()
                await child.wait()
                raise
            self._idle.append(child)
            return answer

    async def close(self) -> None:
        """End the idle children."""
        while self._idle:
            child = self._idle.pop()
            child.kill()
            await child.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _child(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if child.returncode is None:
                return child
        return await spawn(
            *self._command, env=self._env, stdin=PIPE, stdout=PIPE, stderr=self._stderr,
            limit=_LONGEST_ANSWER,
        )  # fmt: skip

    async def _ask(self, child: Child, job: bytes) -> bytes:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            child.stdin.write(job.rstrip(b"\n") + b"\n")
            await child.stdin.drain()
        answer = await child.stdout.readline()
        if not answer.endswith(b"\n"):
            raise ChildDied(await child.wait())
        return answer
