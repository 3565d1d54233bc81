"""The gRPC server of a service: health, reflection, admission, graceful stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from luthier_common.metrics import RpcMetrics
from luthier_common.rpc.interceptors import Authenticate, CallInterceptor
from luthier_common.settings import split_address

MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest message, in bytes; uploads come in pieces of 1 MiB."""

METADATA_BYTES = 64 * 1024
"""The largest set of headers; error details travel in them."""

_CONCURRENT_CALLS = 1000  # beyond it: RESOURCE_EXHAUSTED at once, rather than memory without end

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    # Two processes sharing a port by accident would each get half of the calls.
    ("grpc.so_reuseport", 0),
    # A vanished client's call is cancelled within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Allow our clients' pings; the default answers them with a hang-up.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]

logger = logging.getLogger(__name__)


class RpcServer:
    """Serves the services added to it while it is open (an async context manager).

    Leaving it refuses new calls at once and gives running ones `drain_seconds` to end.
    RuntimeError when the address is taken.
    """

    def __init__(
        self,
        address: str,
        *,
        authenticate: Authenticate,
        metrics: RpcMetrics,
        drain_seconds: float = 20.0,
    ) -> None:
        self._wanted = address
        self._interceptor = CallInterceptor(authenticate, metrics)
        self._drain_seconds = drain_seconds
        self._services: list[tuple[Any, Callable[[Any, grpc.aio.Server], None], str]] = []
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._port = 0

    def add_service(
        self,
        servicer: Any,
        adder: Callable[[Any, grpc.aio.Server], None],
        descriptor: ServiceDescriptor,
    ) -> None:
        """Serve `servicer`; `adder` is the generated `add_…Servicer_to_server`. Before opening."""
        if self._server is not None:
            raise RuntimeError("services are added before the server opens")
        self._services.append((servicer, adder, descriptor.full_name))

    @property
    def port(self) -> int:
        """The port as bound; only once open."""
        if not self._port:
            raise RuntimeError("the server is not open")
        return self._port

    @property
    def address(self) -> str:
        """`host:port` as bound; only once open."""
        return f"{self._wanted.rpartition(':')[0]}:{self.port}"

    async def __aenter__(self) -> Self:
        split_address(self._wanted)
        server = grpc.aio.server(
            interceptors=[self._interceptor],
            options=_OPTIONS,
            maximum_concurrent_rpcs=_CONCURRENT_CALLS,
        )
        for servicer, adder, name in self._services:
            adder(servicer, server)
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [name for _, _, name in self._services]
        reflection.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
        self._port = server.add_insecure_port(self._wanted)
        await server.start()
        self._server = server
        logger.info("serving gRPC", extra={"address": self.address, "services": names})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_seconds)
        self._server = None
