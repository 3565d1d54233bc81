"""Health: whether the process is ready, and the HTTP endpoint that says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from luthier_common.settings import split_address

_REQUEST_SECONDS = 5.0
_TEXT = "text/plain; charset=utf-8"


@dataclass
class Health:
    """Whether new work may be sent here."""

    ready: bool = False


class StatusEndpoint:
    """Serves `/metrics`, `/healthz` (alive) and `/readyz` (takes new work) on `address`.

    It runs on the service's own event loop on purpose: a loop that hangs must not look alive.
    Opened as an async context manager; OSError when the address is taken.
    """

    def __init__(self, address: str, *, registry: CollectorRegistry, health: Health) -> None:
        self._host, self._port = split_address(address)
        self._registry = registry
        self._health = health
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """`host:port` as bound; only while open."""
        if self._server is None:
            raise RuntimeError("the status endpoint is not open")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=8192)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head.split(b"\r\n", 1)[0].decode("latin-1")))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a peer that speaks no HTTP, or has left, is owed no answer
        finally:
            writer.close()

    def _answer(self, request_line: str) -> bytes:
        method, _, rest = request_line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", _TEXT, b"")
        if path == "/metrics":
            status, kind, body = "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry)
        elif path == "/healthz":
            status, kind, body = "200 OK", _TEXT, b"alive\n"
        elif path == "/readyz" and self._health.ready:
            status, kind, body = "200 OK", _TEXT, b"ready\n"
        elif path == "/readyz":
            status, kind, body = "503 Service Unavailable", _TEXT, b"not ready\n"
        else:
            status, kind, body = "404 Not Found", _TEXT, b""
        return _response(status, kind, body if method == "GET" else b"")


def _response(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return (head + "Connection: close\r\n\r\n").encode("latin-1") + body
