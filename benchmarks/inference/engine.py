"""Our engine in this process: its model and scheduler, without a service around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.row import Answers, Row
from luthier_inference.settings import Precision

from benchmarks.inference.scale import ADAPTERS, RANK
from tests.support.engine_rows import Bench, engine_bench

T = TypeVar("T")
CONTEXT = 1024
_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class Timed:
    """An answer, and when its pieces came."""

    tokens: list[int]
    times: list[float]

    @property
    def latency(self) -> float:
        """Mean seconds between two tokens."""
        return (self.times[-1] - self.times[0]) / (len(self.tokens) - 1)

    @property
    def gaps(self) -> list[float]:
        """Seconds between one piece and the next."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


class Engine:
    """An engine with a loop of its own, which runs while it is asked."""

    def __init__(
        self,
        folder: Path,
        precision: Precision,
        *,
        threads: int,
        slots: int = ADAPTERS,
        ranks: int = ADAPTERS * RANK,
    ) -> None:
        self._folder = folder
        self._precision = precision
        self._threads = threads
        self._slots = slots
        self._ranks = ranks

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        bench = engine_bench(
            self._folder,
            precision=self._precision,
            slots=self._slots,
            ranks=self._ranks,
            context=CONTEXT,
            cache_bytes=_CACHE_BYTES,
        )
        self.bench: Bench = self.run(self._stack.enter_async_context(bench))
        torch.set_num_threads(self._threads)  # before the scheduler's first step
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the engine's loop."""
        return self._runner.run(work)

    def write(
        self, prompts: Sequence[list[int]], adapters: Sequence[LoraWeights | None], count: int
    ) -> list[list[int]]:
        """Have prompts answered greedily, all at once, with so many tokens each."""
        rows = [
            self.bench.row(prompt, adapter, limit=count)
            for prompt, adapter in zip(prompts, adapters, strict=True)
        ]
        return self.run(self.bench.tokens(rows))

    async def timed(self, row: Row) -> Timed:
        """Have one row written, and take the time of its pieces."""
        answers = Answers([row])
        self.bench.scheduler.submit(row)
        times = [time.perf_counter() async for _ in answers.read()]
        return Timed(row.written, times)
