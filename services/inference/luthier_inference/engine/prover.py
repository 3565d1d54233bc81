"""No adapter answers before the engine has shown that it computes what its tuning did."""

from __future__ import annotations

import asyncio

from luthier.inference.v1.adapter_pb2 import Adapter, ProbeResult
from luthier_common.errors import DataLoss, ResourceExhausted

from luthier_inference.engine.adapter_files import AdapterFiles
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.probing import ProbeRow, RowSeen, judge, read_probe
from luthier_inference.engine.scheduler import Scheduler
from luthier_inference.served import ENGINE, check_result
from luthier_inference.settings import Precision

_TRIES, _PERIOD_SECONDS = 100, 0.1


class Prover:
    """Reads probes, once for each adapter."""

    def __init__(
        self,
        adapters: AdapterFiles,
        scheduler: Scheduler,
        precision: Precision,
        *,
        start: tuple[int, ...],
        vocabulary: int,
    ) -> None:
        """`start` and `vocabulary` are the model's (`ModelSigns`)."""
        self._adapters = adapters
        self._scheduler = scheduler
        self._precision: Precision = precision
        self._start = start
        self._vocabulary = vocabulary
        self._known: dict[str, ProbeResult | None] = {}
        self._proving: dict[str, asyncio.Task[ProbeResult | None]] = {}

    async def prove(
        self, project: str, adapter: Adapter, weights: LoraWeights
    ) -> ProbeResult | None:
        """Return what the adapter's probe shows; None where it has none.

        DataLoss for a probe that is damaged. Callers who come meanwhile wait for the same result.
        """
        digest = adapter.digest
        if digest not in self._known:
            for told in adapter.probe_results:
                if (told.engine, told.served_precision) == (ENGINE, self._precision):
                    self._known[digest] = told
        if digest not in self._known:
            task = self._proving.get(digest)
            if task is None:
                task = asyncio.create_task(self._prove(project, adapter, weights))
                self._proving[digest] = task
                task.add_done_callback(lambda _: self._proving.pop(digest, None))
            self._known[digest] = await asyncio.shield(task)
        return self._known[digest]

    async def check(self, project: str, adapter: Adapter, weights: LoraWeights) -> None:
        """FailedPrecondition when the engine does not compute what the adapter's tuning did."""
        check_result(adapter, await self.prove(project, adapter, weights))

    async def _prove(
        self, project: str, adapter: Adapter, weights: LoraWeights
    ) -> ProbeResult | None:
        data = await self._adapters.probe(project, adapter)
        if data is None:
            return None
        try:
            probe = read_probe(data, start=self._start, vocabulary=self._vocabulary)
        except ValueError as error:
            message = f"{adapter.name} cannot be loaded: {error}"
            raise DataLoss(message, reason="ADAPTER_DAMAGED") from error
        seen = [await self._examine(row, weights) for row in probe.rows]
        return judge(probe, seen, self._precision)

    async def _examine(self, row: ProbeRow, weights: LoraWeights) -> RowSeen:
        """Read a row between two steps, when there is room for it."""
        for _ in range(_TRIES):
            try:
                return await self._scheduler.examine(row, weights)
            except ResourceExhausted:
                await asyncio.sleep(_PERIOD_SECONDS)
        return await self._scheduler.examine(row, weights)
