"""The gRPC client of a service: deadlines, identity, retries and errors on every call."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import grpc

from luthier_common.errors import PlatformError, Unavailable
from luthier_common.identity import IDENTITY_HEADER, Identity, IdentitySigner, current_identity
from luthier_common.logs import request_id
from luthier_common.rpc.interceptors import REQUEST_ID_HEADER
from luthier_common.rpc.server import MESSAGE_BYTES, METADATA_BYTES
from luthier_common.rpc.status import from_rpc_error

logger = logging.getLogger(__name__)

STREAM_SECONDS = 3600.0
"""The deadline of streams that are given none: an upload, a long generation."""

_IDEMPOTENT = ("Get", "List")
_RETRY_DELAYS = (0.1, 0.4, 1.0)  # seconds; halved to whole by chance

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    # Services talk to each other directly, whatever proxy the machine is set up with.
    ("grpc.enable_http_proxy", 0),
    # A restarted server is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A peer that vanished without a word is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Metadata = tuple[tuple[str, str], ...]


def connect(address: str, *, signer: IdentitySigner, timeout: float = 10.0) -> Channel:
    """Return a channel to the service at `address`; it connects with the first call.

    `timeout` (seconds) is the deadline of calls that are given none, streams excepted.
    """
    return Channel(grpc.aio.insecure_channel(address, options=_OPTIONS), address, signer, timeout)


class Channel(grpc.aio.Channel):
    """A channel for generated stubs whose calls fail with PlatformError only.

    Calls carry the bound identity (`with_identity`), else that of the call being served.
    Responses are awaited or iterated; the other methods of grpc's call objects do not exist.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        address: str,
        signer: IdentitySigner,
        timeout: float,
        identity: Identity | None = None,
    ) -> None:
        self._channel = channel
        self._address = address
        self._signer = signer
        self._timeout = timeout
        self._identity = identity

    def with_identity(self, identity: Identity) -> Channel:
        """Return a view of this channel, sharing its connection, that calls as `identity`."""
        return Channel(self._channel, self._address, self._signer, self._timeout, identity)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the callable of a method with one request and one response."""
        call = cast(Callable[..., Any], self._channel.unary_unary(method, *args, **kwargs))
        name = method.rpartition("/")[2]
        retried = name.startswith(_IDEMPOTENT)

        def start(request: Any, *, timeout: float | None = None) -> Any:
            metadata, seconds = self._metadata(), timeout or self._timeout
            return self._unary(call, request, metadata, seconds, retried=retried)

        return start

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the callable of a method with a stream of requests and one response."""
        call = cast(Callable[..., Any], self._channel.stream_unary(method, *args, **kwargs))

        def start(
            requests: AsyncIterable[Any] | Iterable[Any], *, timeout: float | None = None
        ) -> Any:
            metadata, seconds = self._metadata(), timeout or STREAM_SECONDS
            return self._upload(call, requests, metadata, seconds)

        return start

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the callable of a method with one request and a stream of responses."""
        call = cast(Callable[..., Any], self._channel.unary_stream(method, *args, **kwargs))
        return self._streaming(call)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the callable of a method with streams both ways."""
        call = cast(Callable[..., Any], self._channel.stream_stream(method, *args, **kwargs))
        return self._streaming(call)

    def _streaming(self, call: Callable[..., Any]) -> Any:
        def start(request: Any, *, timeout: float | None = None) -> ResponseStream[Any]:
            metadata, seconds = self._metadata(), timeout or STREAM_SECONDS

            async def open_call() -> AsyncIterable[Any]:
                await self._reach(min(seconds, self._timeout))
                opened = call(request, timeout=seconds, metadata=metadata)
                return cast(AsyncIterable[Any], opened)

            return ResponseStream(open_call)

        return start

    async def _unary(
        self,
        call: Callable[..., Any],
        request: Any,
        metadata: _Metadata,
        seconds: float,
        *,
        retried: bool,
    ) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        delays = iter(_RETRY_DELAYS if retried else ())
        while True:
            try:
                await self._reach(min(end - loop.time(), self._timeout))
                return await call(request, timeout=end - loop.time(), metadata=metadata)
            except (grpc.aio.AioRpcError, Unavailable) as failure:
                error = _platform_error(failure)
                delay = next(delays, None)
                if not isinstance(error, Unavailable) or delay is None:
                    raise error from failure
                delay *= random.uniform(0.5, 1)
                if loop.time() + delay >= end:
                    raise error from failure
                await asyncio.sleep(delay)

    async def _upload(
        self,
        call: Callable[..., Any],
        requests: AsyncIterable[Any] | Iterable[Any],
        metadata: _Metadata,
        seconds: float,
    ) -> Any:
        failures: list[Exception] = []
        source = _watched(requests, failures)
        try:
            return await self._unary(call, source, metadata, seconds, retried=False)
        except asyncio.CancelledError:
            # grpc cancels the call when its source fails, and keeps the cause to itself.
            if failures:
                raise failures[0] from None
            raise

    async def _reach(self, seconds: float) -> None:
        """Wait for the connection, so that a call to a dead peer is refused before it is sent."""
        if self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._channel.channel_ready()
        except TimeoutError as error:
            # The address is for the operator: this error goes on to callers outside.
            logger.warning("a service cannot be reached", extra={"address": self._address})
            raise Unavailable(
                "a part of the platform cannot be reached; try again",
                reason="SERVICE_UNREACHABLE",
            ) from error

    def _metadata(self) -> _Metadata:
        token = self._signer.sign(self._identity or current_identity())
        current = request_id.get() or uuid.uuid4().hex
        return ((IDENTITY_HEADER, token), (REQUEST_ID_HEADER, current))

    async def close(self, grace: float | None = None) -> None:
        """Close the connection, also for every view of it."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the connection's state."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the connection's state is another."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait for the connection."""
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class ResponseStream(Generic[_Response]):
    """The responses of a call, which begins with the first `anext` and ends with `cancel`."""

    def __init__(self, open_call: Callable[[], Any]) -> None:
        self._open_call = open_call
        self._call: Any = None
        self._responses: AsyncIterator[_Response] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Response:
        try:
            if self._responses is None:
                self._call = await self._open_call()
                self._responses = aiter(self._call)
            return await anext(self._responses)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def cancel(self) -> None:
        """End the call; the server's handler is cancelled."""
        if self._call is not None:
            self._call.cancel()

    async def aclose(self) -> None:
        """End the call, for `contextlib.aclosing`."""
        self.cancel()


async def _watched(
    requests: AsyncIterable[_Request] | Iterable[_Request], failures: list[Exception]
) -> AsyncGenerator[_Request, None]:
    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                yield request
        else:
            for request in requests:
                yield request
    except Exception as error:
        failures.append(error)
        raise


def _platform_error(failure: grpc.aio.AioRpcError | Unavailable) -> PlatformError:
    return failure if isinstance(failure, PlatformError) else from_rpc_error(failure)
