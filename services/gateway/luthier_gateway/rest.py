"""The REST side: the routes, what happens around every request, and the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI
from luthier_common.errors import Unauthenticated
from luthier_common.identity import Identity, set_identity
from luthier_common.logs import request_id
from luthier_common.settings import split_address
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier_gateway import datasets
from luthier_gateway.body_limit import BodyLimit
from luthier_gateway.hanging_up import CALLER_GONE
from luthier_gateway.identity import KeyRing
from luthier_gateway.metrics import RestMetrics, route_of
from luthier_gateway.openai import (
    chat,
    completions,
    embeddings,
    errors,
    files,
    jobs,
    models,
    uploads,
)
from luthier_gateway.owners import Owners

logger = logging.getLogger(__name__)


def create_app(
    owners: Owners, ring: KeyRing, metrics: RestMetrics, *, max_upload_bytes: int
) -> ASGIApp:
    """Return the REST API and what happens around it."""
    api = BodyLimit(create_api(owners, metrics), max_upload_bytes=max_upload_bytes)
    return Front(api, ring, metrics)


def create_api(owners: Owners, metrics: RestMetrics) -> FastAPI:
    """Return the routes, all of them under `/v1`."""
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    api.state.owners = owners
    api.state.metrics = metrics
    errors.install(api)
    for module in (files, uploads, jobs, models, chat, completions, embeddings, datasets):
        api.include_router(module.router, prefix="/v1")
    return api


class Front:
    """Around every request: its id, who asks, figures, and a line in the log, without secrets."""

    def __init__(self, app: ASGIApp, ring: KeyRing, metrics: RestMetrics) -> None:
        self._app = app
        self._ring = ring
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway does not speak {scope['type']}")
        started = time.perf_counter()
        current = f"req_{uuid.uuid4().hex}"
        request_id.set(
            current
        )  # the server gives every request a task, hence a context, of its own
        status = CALLER_GONE
        identity: Identity | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = current
            await send(message)

        try:
            identity = self._ring.identify(Headers(scope=scope).get("authorization"))
            set_identity(identity)
            await self._app(scope, receive, send_with_id)
        except Unauthenticated as error:
            await errors.answer(error)(scope, receive, send_with_id)
        finally:
            self._record(scope, status, time.perf_counter() - started, identity)

    def _record(self, scope: Scope, status: int, seconds: float, identity: Identity | None) -> None:
        route = route_of(scope)
        self._metrics.answered(route, scope["method"], status, seconds)
        extra = {
            "method": scope["method"],
            "path": scope["path"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
        }
        if identity is not None:
            extra |= {"project": identity.project, "subject": identity.subject}
        logger.info("request", extra=extra)


class RestServer:
    """Serves `app` while it is open (an async context manager); OSError when the address is taken.

    Leaving it refuses new connections at once and gives running requests `drain_seconds` to end.
    """

    def __init__(self, app: ASGIApp, address: str, *, drain_seconds: float) -> None:
        self._host, self._wanted_port = split_address(address)
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
            )
        )
        self._port = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """`host:port` as bound; only once open."""
        return f"{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        bound = socket.create_server(
            (self._host, self._wanted_port),
            family=socket.AF_INET6 if ":" in self._host else socket.AF_INET,
        )
        self._port = bound.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve([bound]), name="rest")
        await self._server.listening.wait()
        logger.info("serving REST", extra={"address": self.address})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None


class _Server(uvicorn.Server):
    """uvicorn's server as a part of a process that has signal handlers of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
