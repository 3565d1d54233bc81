"""One NATS connection per process, and the meaning of its errors.

Everything here survives a restart of the server: the connection is re-made for ever, requests
that got lost meanwhile time out, and a timed-out write has an unknown outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

from luthier_common.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)

_log = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.2

# JetStream's own error numbers (nats-server, server/errors.json).
NO_MESSAGE_FOUND = 10037
WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_STREAM_MISSING = frozenset({10059})
_OUT_OF_SPACE = frozenset({10023, 10028, 10047, 10077})

TRANSIENT: tuple[type[Exception], ...] = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.StaleConnectionError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.NoServersError,
    nats.js.errors.NoStreamResponseError,
    nats.js.errors.ServiceUnavailableError,
    OSError,
)
"""Failures that a later attempt may not meet; of a write, the outcome is unknown."""

_REFUSED = "authorization violation"
_ACKNOWLEDGED_AT = b"$JS.ACK."


class _SteadyClient(Client):
    """The library's client, with a reading that no publisher can disturb."""

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception:
            # Such as bytes that are no UTF-8; raised any further, it ends the reading of them all.
            _log.exception("a message on %r cannot be read", subject)

    def _build_message(
        self,
        sid: int,
        subject: bytes,
        reply: bytes,
        data: bytes,
        headers: dict[str, str] | None,
    ) -> Msg:
        if headers is not None and reply.startswith(_ACKNOWLEDGED_AT):
            # A message from a stream is never a status of the server, whatever it says.
            headers.pop(Header.STATUS, None)
        message: Msg = super()._build_message(sid, subject, reply, data, headers)
        return message


@contextlib.asynccontextmanager
async def open_nats(url: str, *, name: str, timeout: float = 10.0) -> AsyncIterator[Client]:
    """Connect within `timeout` seconds or raise Unavailable; drain and close at the end."""
    client = _SteadyClient()
    try:
        async with asyncio.timeout(timeout):
            await client.connect(
                url,
                name=name,
                error_cb=_log_error,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                # The library says int and sleeps for whatever number it is given.
                reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]
                ping_interval=10,
            )
    except (TimeoutError, nats.errors.Error, OSError) as error:
        refused = _REFUSED in str(client.last_error).lower()
        await client.close()
        if refused:
            raise FailedPrecondition(
                f"NATS at {_without_secret(url)} refuses our credentials", reason="NATS_REFUSED"
            ) from error
        raise Unavailable(
            f"NATS does not answer at {_without_secret(url)}", reason="NATS_UNREACHABLE"
        ) from error
    try:
        yield client
    finally:
        await _finish(client)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise failures of NATS during `what` as our errors."""
    try:
        yield
    except (nats.errors.Error, OSError) as error:
        raise platform_error(error, what) from error


def platform_error(error: Exception, what: str) -> PlatformError:
    """Return what a failure of NATS during `what` means for our callers."""
    number = error.err_code if isinstance(error, nats.js.errors.APIError) else None
    if number in _STREAM_MISSING:
        return Unavailable(f"{what}: the stream is missing", reason="STREAM_MISSING")
    if number in _OUT_OF_SPACE:
        return ResourceExhausted(f"{what}: NATS is out of space", reason="NATS_FULL")
    if isinstance(error, nats.errors.MaxPayloadError):
        return InvalidArgument(f"{what}: too large for NATS", reason="RECORD_TOO_LARGE")
    if isinstance(error, nats.errors.AuthorizationError):
        return FailedPrecondition(f"{what}: NATS refuses our credentials", reason="NATS_REFUSED")
    if isinstance(error, TRANSIENT):
        return Unavailable(f"{what}: NATS does not answer", reason="NATS_UNREACHABLE")
    return Internal(f"{what}: NATS answered {error}", reason="NATS_ERROR")


async def _log_error(error: Exception) -> None:
    _log.warning("nats: %s", error or type(error).__name__)


async def _finish(client: Client) -> None:
    try:
        await client.drain()
    except (nats.errors.Error, OSError, TimeoutError):
        # Nothing to drain into while the server is away, and perhaps nothing to close either.
        with contextlib.suppress(OSError):
            await client.close()


def _without_secret(url: str) -> str:
    return url.rpartition("@")[2]
