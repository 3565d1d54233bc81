"""Another engine's HTTP server: whether it lives, and what its failures mean."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import httpx2
from luthier_common.errors import Unavailable

_HEALTH_PERIOD_SECONDS = 2.0
_HEALTH_TIMEOUT_SECONDS = 5.0
_HEALTH_FAILURES = 3
_CONNECT_SECONDS = 2.0
_SILENCE_SECONDS = 600.0  # a request may wait that long in the server's queue
_TIMEOUT = httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)

logger = logging.getLogger(__name__)


class Server:
    """A connection to one replica; it has ended once it no longer answers."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # Like services, servers are reached directly, whatever proxy the machine is set up with.
        self.client = httpx2.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        )
        self._suspected = asyncio.Event()
        self._end: asyncio.Task[str] | None = None

    @property
    def alive(self) -> bool:
        """Whether it answered when it was last asked."""
        return self._end is not None and not self._end.done()

    def watch(self) -> None:
        """Ask for its health from now on."""
        self._end = asyncio.create_task(self._see_end(), name=f"end of {self.url}")

    async def ended(self) -> str:
        """Wait until it does not answer any more, and return why."""
        if self._end is None:
            return "it was never watched"
        # Not the task's own cancellation, which `stop` asks for.
        await asyncio.wait([self._end])
        return "it was let go" if self._end.cancelled() else self._end.result()

    async def stop(self) -> None:
        """Let go of it."""
        if self._end is not None:
            self._end.cancel()
            await asyncio.wait([self._end])
        await self.client.aclose()

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Have failures of the connection tell as Unavailable, and its health looked at."""
        try:
            yield
        except (httpx2.TransportError, httpx2.StreamError) as error:
            self._suspected.set()
            logger.warning("a server is lost", extra={"url": self.url, "detail": repr(error)})
            raise Unavailable("the engine was lost", reason="ENGINE_LOST") from error

    async def _see_end(self) -> str:
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEALTH_PERIOD_SECONDS if not failures else 0.2):
                    await self._suspected.wait()
            self._suspected.clear()
            try:
                response = await self.client.get("/health", timeout=_HEALTH_TIMEOUT_SECONDS)
                failures = 0 if response.is_success else failures + 1
                why = f"its health is {response.status_code}"
            except httpx2.ConnectError:
                return "it refuses connections"
            except httpx2.TransportError as error:
                failures, why = failures + 1, repr(error)
            if failures >= _HEALTH_FAILURES:
                return why
