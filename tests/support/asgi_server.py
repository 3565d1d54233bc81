"""An ASGI application on a free port of 127.0.0.1, that can be killed like a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn


class AsgiServer(uvicorn.Server):
    """A server in this process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the tests' own process handles its signals

    @property
    def url(self) -> str:
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        """Refuse connections and cut those that are open."""
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            transport.abort()


@asynccontextmanager
async def asgi_server(app: Any, *, port: int = 0) -> AsyncIterator[AsgiServer]:
    """Serve `app`."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    server = AsgiServer(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = server.force_exit = True
        await task
