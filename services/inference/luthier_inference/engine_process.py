"""One engine: the child process that holds a base model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToJson
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.children import Child, spawn
from luthier_common.errors import PlatformError, Unavailable
from luthier_common.identity import LIBRARY, IdentitySigner, service_identity
from luthier_common.rpc.client import Channel, connect
from luthier_common.settings import PREFIX

from luthier_inference.settings import InferenceSettings

_START_SECONDS = 600.0  # a large model is read from the store, verified and loaded
_HEALTH_PERIOD_SECONDS = 5.0
_HEALTH_TIMEOUT_SECONDS = 10.0
_HEALTH_FAILURES = 3
_STOP_SECONDS = 5.0
_NOTICE_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Engine:
    """A running engine process and the channel to it."""

    def __init__(self, base: BaseModel, child: Child, channel: Channel) -> None:
        self.base = base
        self.child = child
        self.channel = channel
        self.calls = 0
        """Calls in flight."""
        self.used_at = time.monotonic()
        """When a call last began or ended, in seconds of the monotonic clock."""

        self.stopped = False
        """Whether it was told to end."""

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return self.child.returncode is None and not self.stopped

    async def watch(self) -> int:
        """Wait for its end and return the exit code; one that stops answering is killed."""
        health = asyncio.create_task(self._check_health())
        try:
            return await self.child.wait()
        finally:
            health.cancel()
            await asyncio.wait([health])

    async def stop(self) -> None:
        """End the process."""
        self.stopped = True
        await self.child.stop(_STOP_SECONDS)
        await self._close_unused()

    @contextlib.asynccontextmanager
    async def call(self) -> AsyncGenerator[None, None]:
        """Count a call in flight; one that fails gets the time to see whether the engine died."""
        self.calls += 1
        self.used_at = time.monotonic()
        try:
            yield
        except Unavailable:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NOTICE_SECONDS):
                    await self.child.wait()
            raise
        finally:
            self.calls -= 1
            self.used_at = time.monotonic()
            await self._close_unused()

    async def _close_unused(self) -> None:
        # Not under a call: grpc has no orderly answer to that.
        if self.stopped and not self.calls:
            await self.channel.close()

    async def _check_health(self) -> None:
        channel = self.channel.with_identity(service_identity(LIBRARY, "inference"))
        stub: Any = HealthStub(channel)
        failures = 0
        while failures < _HEALTH_FAILURES:
            await asyncio.sleep(_HEALTH_PERIOD_SECONDS)
            try:
                await stub.Check(HealthCheckRequest(), timeout=_HEALTH_TIMEOUT_SECONDS)
                failures = 0
            except PlatformError:
                failures += 1
        logger.error("the engine does not answer", extra={"pid": self.child.pid})
        self.child.kill()


def engine_environment(settings: InferenceSettings, base: BaseModel) -> dict[str, str]:
    """Return the environment of the engine for `base`: this one's without this one's settings."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
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
) -> Engine:
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
    return Engine(base, child, connect(started["address"], signer=signer))


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
