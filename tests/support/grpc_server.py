"""Real gRPC servers on a free port, and channels to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from luthier_common.identity import Identity, IdentitySigner, Role
from luthier_common.metrics import RpcMetrics
from luthier_common.rpc.client import Channel, connect
from luthier_common.rpc.server import RpcServer
from prometheus_client import CollectorRegistry

SECRET = "a secret that only tests know, 32+"
Service = tuple[Any, Callable[..., None], ServiceDescriptor]


def caller(project: str = "acme", role: Role = Role.ADMIN) -> Identity:
    """Return somebody of a project."""
    return Identity(project, role, f"apiKeys/{project}")


class Serving:
    """A running server; its channels are closed with it."""

    def __init__(self, server: RpcServer, registry: CollectorRegistry) -> None:
        self.rpc = server
        self.registry = registry
        self.address = server.address
        self.signer = IdentitySigner(SECRET)
        self._stack = AsyncExitStack()

    def channel(self, identity: Identity | None = None, *, timeout: float = 10.0) -> Channel:
        """Return a channel that calls as `identity`."""
        channel = connect(self.address, signer=self.signer, timeout=timeout)
        self._stack.push_async_callback(channel.close)
        return channel.with_identity(identity or caller())

    async def aclose(self) -> None:
        """Close the channels."""
        await self._stack.aclose()


@asynccontextmanager
async def serving(
    *services: Service, address: str = "127.0.0.1:0", drain_seconds: float = 0.0
) -> AsyncIterator[Serving]:
    """Serve `(servicer, adder, descriptor)`s as a platform service does."""
    registry = CollectorRegistry()
    server = RpcServer(
        address,
        authenticate=IdentitySigner(SECRET).authenticate,
        metrics=RpcMetrics(registry),
        drain_seconds=drain_seconds,
    )
    for servicer, adder, descriptor in services:
        server.add_service(servicer, adder, descriptor)
    async with server:
        running = Serving(server, registry)
        try:
            yield running
        finally:
            await running.aclose()
