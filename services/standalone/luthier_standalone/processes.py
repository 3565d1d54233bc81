"""The processes of the platform: started, awaited until ready, started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from luthier_common.children import Child, spawn
from luthier_common.errors import PlatformError, Unavailable

_logger = logging.getLogger(__name__)

_READY_POLL_SECONDS = 0.1
_START_SECONDS = 60.0
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0
_HEALTHY_SECONDS = 30.0
"""A process that lived this long starts again at once, whatever happened before."""
_LOG_BYTES = 16 * 1024 * 1024
"""A log beyond this size is set aside as `….log.1` when its process starts."""

# Proxies of the environment are for the world outside, not for this machine's own services.
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Process(Protocol):
    """A program that can be started again after it has ended."""

    async def start(self) -> None:
        """Start it and return once it does its work; PlatformError if it does not get there."""

    async def wait(self) -> int:
        """Wait for its end and return the exit code; negative for a signal."""

    async def stop(self) -> None:
        """End it in order."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What to run and how to see that it works."""

    name: str
    argv: tuple[str, ...]
    ready_url: str
    """Answers 200 once the service does its work."""
    log: Path
    """Where its output is appended."""
    env: Mapping[str, str]
    """The whole environment."""
    stop_seconds: float
    """How long it may drain before it is killed."""


class ServiceProcess:
    """A service as a child process."""

    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        self._child: Child | None = None

    async def start(self) -> None:
        """Start it; Unavailable with its own last words unless it gets ready."""
        spec = self._spec
        if spec.log.exists() and spec.log.stat().st_size > _LOG_BYTES:
            spec.log.replace(spec.log.with_name(f"{spec.log.name}.1"))
        with spec.log.open("ab") as log:
            child = await spawn(*spec.argv, env=spec.env, stdout=log, stderr=log)
        self._child = child
        try:
            await self._until_ready(child)
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        if self._child is None:
            raise RuntimeError(f"{self._spec.name} is not started")
        return await self._child.wait()

    async def stop(self) -> None:
        """Let it drain, then kill it."""
        if self._child is not None:
            await self._child.stop(grace=self._spec.stop_seconds)
            self._child = None

    async def _until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while child.returncode is None and time.monotonic() < deadline:
            if await asyncio.to_thread(_answers, self._spec.ready_url):
                return
            await asyncio.sleep(_READY_POLL_SECONDS)
        happened = "did not get ready" if child.returncode is None else "could not start"
        raise Unavailable(
            f"{self._spec.name} {happened}: {last_words(self._spec.log)} (log: {self._spec.log})",
            reason="SERVICE_NOT_STARTED",
        )


class Kept:
    """Keeps a process there while this context is entered, whatever happens to it.

    Entering returns once the process does its work; PlatformError if the first start fails.
    """

    def __init__(
        self, name: str, process: Process, announce: Callable[[str], object] = _logger.warning
    ) -> None:
        self._name = name
        self._process = process
        self._announce = announce
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._process.start()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self._name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._process.stop()

    async def _keep(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while True:
            born = time.monotonic()
            code = await self._process.wait()
            self._announce(f"{self._name} ended ({describe_exit(code)}); starting it again")
            if time.monotonic() - born > _HEALTHY_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            delay = await self._restart(delay)
            self._announce(f"{self._name} works again")

    async def _restart(self, delay: float) -> float:
        """Try until it works; return the delay that the next death begins with."""
        while True:
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
            try:
                await self._process.start()
            except PlatformError as error:
                self._announce(error.message)
            else:
                return delay


def describe_exit(code: int) -> str:
    """Return an exit code in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def last_words(log: Path) -> str:
    """Return the message of the last line of a log, JSON or plain."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not lines:
        return "it said nothing"
    try:
        record = json.loads(lines[-1])
    except ValueError:
        return lines[-1].strip()
    return str(record.get("message", lines[-1])) if isinstance(record, dict) else lines[-1]


def _answers(url: str) -> bool:
    try:
        with _http.open(url, timeout=2.0) as response:
            return bool(response.status == 200)
    except OSError:  # refused, timed out, or any status but success
        return False
