"""A real nats-server for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from luthier_common.nats_client import open_nats
from luthier_common.nats_process import NatsProcess
from nats.aio.client import Client


@asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[NatsProcess]:
    """Run a server on a free port; `kill` and `start` again make it crash and come back."""
    async with NatsProcess(folder / "nats") as server:
        yield server


@asynccontextmanager
async def nats_connection(folder: Path) -> AsyncIterator[Client]:
    """Run a server and connect to it."""
    async with nats_server(folder) as server, open_nats(server.url, name="test") as client:
        yield client
