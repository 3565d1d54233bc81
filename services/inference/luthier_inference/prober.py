"""Published adapters are loaded where their base model runs, and what their probe shows is kept.

An engine reads an adapter's probe before it answers with it, whether it is asked from here or by a
caller; here it happens before a caller waits for it.
"""

from __future__ import annotations

import logging
from typing import Protocol

from luthier.inference.v1.adapter_pb2 import Adapter, ProbeResult
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import HoldAdapterRequest, HoldAdapterResponse
from luthier_common.errors import NotFound, PlatformError
from luthier_common.names import parent_of
from luthier_common.records.collection import Collection

from luthier_inference.adapters import PROBE, is_live

logger = logging.getLogger(__name__)


class Engines(Protocol):
    """The engines, as far as they load adapters."""

    def serves(self, base: BaseModel) -> bool:
        """Whether an engine for `base` runs."""
        ...

    async def hold(self, base: BaseModel, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Load an adapter; PlatformError."""
        ...


class Prober:
    """Follows the adapters."""

    def __init__(
        self, adapters: Collection[Adapter], base_models: Collection[BaseModel], engines: Engines
    ) -> None:
        self._adapters = adapters
        self._base_models = base_models
        self._engines = engines

    async def run(self) -> None:
        """Load what is published, until cancelled; a failure is only logged."""
        async for name in self._adapters.changes():
            try:
                await self._look(name)
            except PlatformError as error:
                extra = {"adapter": name, "detail": error.message}
                logger.warning("an adapter is not probed yet", extra=extra)

    async def _look(self, name: str) -> None:
        try:
            adapter = await self._adapters.get(name)
            base = await self._base_models.get(adapter.base_model)
        except NotFound:
            return
        probed = adapter.probe_results or PROBE not in {file.path for file in adapter.files}
        if probed or adapter.hold_reason or not is_live(adapter) or not self._engines.serves(base):
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


def _place(result: ProbeResult) -> tuple[str, str]:
    return result.engine, result.served_precision
