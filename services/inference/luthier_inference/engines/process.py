"""Our own engine: a child process that holds a base model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToJson
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsRequest,
    EmbedTextsResponse,
    GenerateRequest,
    GenerateResponse,
    HoldAdapterRequest,
    HoldAdapterResponse,
    WatchEngineRequest,
)
from luthier.inference.v1.engine_service_pb2_grpc import EngineServiceStub
from luthier_common.children import Child, spawn
from luthier_common.errors import PlatformError, Unavailable
from luthier_common.identity import LIBRARY, IdentitySigner, service_identity
from luthier_common.names import project_of
from luthier_common.rpc.client import Channel, connect
from luthier_common.settings import PREFIX

from luthier_inference.settings import InferenceSettings

_START_SECONDS = 600.0  # a large model is read from the store, verified and loaded
_HEALTH_PERIOD_SECONDS = 5.0
_HEALTH_TIMEOUT_SECONDS = 10.0
_HEALTH_FAILURES = 3
_WATCH_AGAIN_SECONDS = 1.0
_LOAD_SECONDS = 600.0  # a large adapter is read from the store, verified and loaded
_EMBED_SECONDS = 600.0
_STOP_SECONDS = 5.0
_OWN_SETTINGS = PREFIX + "ENGINE_"

logger = logging.getLogger(__name__)


class EngineProcess:
    """A running engine process and the channel to it."""

    def __init__(self, base: BaseModel, child: Child, channel: Channel) -> None:
        self._child = child
        self._channel = channel
        self._calls = 0
        self._stopped = False
        self._waiting = 0
        self._adapters: frozenset[str] = frozenset()
        self._end = asyncio.create_task(self._see_end(), name=f"end of {base.name}")

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return self._child.returncode is None and not self._stopped

    @property
    def waiting(self) -> int:
        """Requests that wait inside it, as it last said."""
        return self._waiting

    @property
    def adapters(self) -> frozenset[str]:
        """Digests of the adapters in its memory, as it last said."""
        return self._adapters

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
        """Stream the answers; leaving them ends them in the engine, too."""
        async with (
            self._call(request.parent) as stub,
            contextlib.aclosing(stub.Generate(request)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def embed(self, request: EmbedTextsRequest) -> EmbedTextsResponse:
        """Return a vector for each text."""
        async with self._call(request.parent) as stub:
            response: EmbedTextsResponse = await stub.EmbedTexts(request, timeout=_EMBED_SECONDS)
            return response

    async def hold(self, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Load, pin, unpin or unload an adapter."""
        async with self._call(request.parent) as stub:
            response: HoldAdapterResponse = await stub.HoldAdapter(request, timeout=_LOAD_SECONDS)
            return response

    async def ended(self) -> str:
        """Wait for its end and return how it came; one that stops answering is killed."""
        return await asyncio.shield(self._end)

    async def stop(self) -> None:
        """End the process."""
        self._stopped = True
        await self._child.stop(_STOP_SECONDS)
        await self._end
        await self._close_unused()

    @contextlib.asynccontextmanager
    async def _call(self, parent: str) -> AsyncGenerator[Any, None]:
        self._calls += 1
        try:
            yield EngineServiceStub(self._as(project_of(parent, field="parent")))
        finally:
            self._calls -= 1
            await self._close_unused()

    def _as(self, project: str) -> Channel:
        return self._channel.with_identity(service_identity(project, "inference"))

    async def _close_unused(self) -> None:
        # Not under a call: grpc has no orderly answer to that.
        if self._stopped and not self._calls:
            await self._channel.close()

    async def _see_end(self) -> str:
        tasks = [asyncio.create_task(self._check_health()), asyncio.create_task(self._listen())]
        try:
            code = await self._child.wait()
            return f"process {self._child.pid} ended with {code}"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _check_health(self) -> None:
        stub: Any = HealthStub(self._as(LIBRARY))
        failures = 0
        while failures < _HEALTH_FAILURES:
            await asyncio.sleep(_HEALTH_PERIOD_SECONDS)
            try:
                await stub.Check(HealthCheckRequest(), timeout=_HEALTH_TIMEOUT_SECONDS)
                failures = 0
            except PlatformError:
                failures += 1
        logger.error("the engine does not answer", extra={"pid": self._child.pid})
        self._child.kill()

    async def _listen(self) -> None:
        """Hear what it holds and how busy it is."""
        stub: Any = EngineServiceStub(self._as(LIBRARY))
        request = WatchEngineRequest(parent=f"projects/{LIBRARY}")
        while True:
            with contextlib.suppress(PlatformError):
                async with contextlib.aclosing(stub.WatchEngine(request)) as states:
                    async for state in states:
                        self._waiting = state.waiting_count
                        self._adapters = frozenset(state.adapter_digests)
            await asyncio.sleep(_WATCH_AGAIN_SECONDS)


def engine_environment(settings: InferenceSettings, base: BaseModel) -> dict[str, str]:
    """Return the environment of the engine for `base`: this one's without this one's settings."""
    own = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(PREFIX) or key.startswith(_OWN_SETTINGS)
    }
    given = {
        "OBJECTS_URL": settings.objects_url,
        "OBJECTS_ACCESS_KEY": settings.objects_access_key,
        "OBJECTS_SECRET_KEY": settings.objects_secret_key.get_secret_value(),
        "IDENTITY_SECRET": settings.identity_secret.get_secret_value(),
        "LOG_LEVEL": settings.log_level,
        "DRAIN_SECONDS": "0",  # the router's own drain has waited for its calls
        "WORK_DIR": str(settings.work_dir),
        "ENGINE_PRECISION": settings.engine_precision,
        "ENGINE_BASE_MODEL": MessageToJson(base, indent=None),
    }
    # Nothing is ever fetched from a model hub.
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return own | {PREFIX + key: value for key, value in given.items()} | offline


async def start_engine(
    base: BaseModel, environment: Mapping[str, str], signer: IdentitySigner
) -> EngineProcess:
    """Start the engine for `base` and wait until it serves; Unavailable says why it does not."""
    child = await spawn(
        sys.executable, "-m", "luthier_inference.engine", env=environment, stdout=PIPE
    )
    try:
        started = await _first_line(child)
        if "address" not in started:
            reason = started.get("error", "it ended while starting; its log says why")
            raise Unavailable(
                f"the engine of {base.name} did not start: {reason}", reason="ENGINE_NOT_STARTED"
            )
    except BaseException:
        await child.stop(_STOP_SECONDS)
        raise
    logger.info("engine started", extra={"base_model": base.name, "pid": child.pid})
    return EngineProcess(base, child, connect(started["address"], signer=signer))


async def _first_line(child: Child) -> dict[str, str]:
    """Return what the engine says of itself: `address`, or `error`."""
    if child.stdout is None:
        raise RuntimeError("the child's output is not piped")
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            line = await child.stdout.readline()
    content: dict[str, str] = json.loads(line or b"{}")
    return content
