"""Child processes that cannot outlive this one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

# Runs in the child before the program, in place of `preexec_fn`, which is not safe in a process
# with threads (gRPC's). It asks the kernel for SIGKILL when the parent dies, looks whether that
# has happened already, and becomes the program: same pid, and the request survives exec.
_BIND_TO_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    print(f"{sys.argv[2]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
"""

Output = int | IO[bytes] | IO[str] | None
"""Where output goes: as `subprocess.run` takes it."""


class Child:
    """A running child process, leader of its own session; stopped when left as a context."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.returncode

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        """Its input, when spawned with `stdin=PIPE`."""
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """Its output, when spawned with `stdout=PIPE`."""
        return self._process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader | None:
        """Its error output, when spawned with `stderr=PIPE`."""
        return self._process.stderr

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return await self._process.wait()

    def kill(self) -> None:
        """Kill it and whatever it has started in its session; nothing when it has ended."""
        if self.returncode is None:  # afterwards the number may be another process's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace: float = 10.0) -> int:
        """Ask it to end (SIGTERM), kill it after `grace` seconds, and return the exit code."""
        try:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            pass
        finally:
            # Also when this wait is cancelled: nothing may be left behind.
            self.kill()
        return await self.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


async def spawn(
    *argv: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Output = DEVNULL,
    stdout: Output = None,
    stderr: Output = None,
    limit: int = 64 * 1024,
) -> Child:
    """Start a program that is killed when this process dies, however it dies.

    Call it on the main thread: the kernel watches the thread that started the child. The child
    has its own session, so Ctrl-C in the terminal reaches only this process, which stops it.
    A program that does not exist ends with 127. `limit` bounds a line read from its output.
    """
    command = argv
    if sys.platform == "linux":
        command = (sys.executable, "-I", "-S", "-c", _BIND_TO_PARENT, str(os.getpid()), *argv)
    process = await asyncio.create_subprocess_exec(
        *command,
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        limit=limit,
        start_new_session=True,
    )
    return Child(process)
