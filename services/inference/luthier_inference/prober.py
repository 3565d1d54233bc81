"""What an engine makes of an adapter's probe is kept in the adapter's record.

An engine reads the probe before it first answers with the adapter. Where it runs when the adapter
is published, it is asked at once, before a caller waits; otherwise after the first request, when it
answers from memory. Nothing is probed only because an engine has started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from luthier.inference.v1.adapter_pb2 import Adapter, ProbeResult
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import HoldAdapterRequest, HoldAdapterResponse
from luthier_common.errors import NotFound, PlatformError
from luthier_common.names import parent_of
from luthier_common.records.collection import Collection

from luthier_inference.adapters import PROBE, is_live
from luthier_inference.served import probe_result
from luthier_inference.settings import Precision

logger = logging.getLogger(__name__)


class Engines(Protocol):
    """The engines, as far as they load adapters."""

    def serves(self, base: BaseModel) -> bool:
        """Whether an engine for `base` runs."""
        ...

    def precision(self, base: BaseModel) -> Precision | None:
        """Return how engines hold `base`; None where they read no probes."""
        ...

    async def hold(self, base: BaseModel, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Load an adapter; PlatformError."""
        ...


class Prober:
    """Follows the adapters that are published, and those that are asked."""

    def __init__(
        self, adapters: Collection[Adapter], base_models: Collection[BaseModel], engines: Engines
    ) -> None:
        self._adapters = adapters
        self._base_models = base_models
        self._engines = engines
        self._asked: set[str] = set()
        self._told = asyncio.Event()

    def ask(self, base: BaseModel, adapter: Adapter) -> None:
        """Have kept what an engine found when a caller asked it for `adapter`."""
        precision = self._engines.precision(base)
        if precision is not None and _unread(adapter, precision):
            self._asked.add(adapter.name)
            self._told.set()

    async def follow_published(self) -> None:
        """Look at what is published, until cancelled; a failure is only logged."""
        await self._follow(self._adapters.changes())

    async def follow_asked(self) -> None:
        """The same of what callers ask."""
        await self._follow(self._names_asked())

    async def _names_asked(self) -> AsyncIterator[str]:
        while True:
            await self._told.wait()
            self._told.clear()
            while self._asked:
                yield self._asked.pop()

    async def _follow(self, names: AsyncIterator[str]) -> None:
        async for name in names:
            try:
                await self._look(name)
            except PlatformError as error:
                extra = {"adapter": name, "detail": error.message}
                logger.warning("an adapter is not probed yet", extra=extra)
            if (task := asyncio.current_task()) and task.cancelling():
                # nats-py waits with `asyncio.wait_for`, which loses some before Python 3.12.
                return

    async def _look(self, name: str) -> None:
        try:
            adapter = await self._adapters.get(name)
            base = await self._base_models.get(adapter.base_model)
        except NotFound:
            return
        if adapter.hold_reason or not is_live(adapter) or not self._engines.serves(base):
            return
        if not _unread(adapter, self._engines.precision(base)):
            return
        request = HoldAdapterRequest(
            parent=parent_of(name), adapter=adapter, hold=HoldAdapterRequest.LOADED
        )
        response = await self._engines.hold(base, request)
        if response.HasField("probe_result"):
            await self._keep(name, response.probe_result)

    async def _keep(self, name: str, result: ProbeResult) -> None:
        def add(adapter: Adapter) -> Adapter:
            kept = [each for each in adapter.probe_results if _place(each) != _place(result)]
            del adapter.probe_results[:]
            adapter.probe_results.extend([*kept, result])
            return adapter

        await self._adapters.update(name, add)
        if not result.passed:
            logger.error(
                "an adapter is not served: the engine does not compute what tuning did",
                extra={"adapter": name, "divergence": result.divergence, "bound": result.bound},
            )


def _unread(adapter: Adapter, precision: Precision | None) -> bool:
    """Whether it has a probe, and nobody knows what it shows."""
    known = probe_result(adapter, precision) is not None
    return not known and PROBE in {file.path for file in adapter.files}


def _place(result: ProbeResult) -> tuple[str, str]:
    return result.engine, result.served_precision
