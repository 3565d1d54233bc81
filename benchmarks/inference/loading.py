"""What answers notice of adapters that are loaded beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_inference.digests import adapter_digest
from luthier_inference.engine.adapter_files import AdapterFiles
from luthier_inference.engine.metrics import EngineMetrics
from prometheus_client import CollectorRegistry

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.inference import materials
from benchmarks.inference.crowding import random_adapter
from benchmarks.inference.engine import Engine
from benchmarks.inference.scale import ADAPTERS, CORES, Scale
from benchmarks.inference.turns import in_turns, medians, percentile
from tests.support.real_vllm import import_files

_PERIOD_SECONDS = 0.25
_ASIDE_TOKENS = 8
"""Of the prompt of a request whose adapter is loaded."""
_SLOTS, _RANKS = 32, 2048
"""The engine's defaults: all have room."""
_PROJECT = "acme"

Before = Callable[[Adapter], Coroutine[Any, Any, None]]
"""What happens to an adapter before it is asked."""


class Street:
    """Answers on their way, and the requests that come beside them."""

    def __init__(self, engine: Engine, model: Path, count: int) -> None:
        """`count` is the length of the answers in tokens."""
        self._engine = engine
        self._bench = engine.bench
        self._count = count
        self._source = materials.prompts(model, "loads")
        self._held = [random_adapter(engine, number) for number in range(ADAPTERS)]
        self.loads = 0
        """So far, rounds that do not count included."""

    async def store(self, saved: list[Path], folder: Path) -> None:
        """Put the adapters that will be loaded into a directory store."""
        base = BaseModel(
            name="projects/library/baseModels/bench",
            digest="b" * 64,
            tokenizer_digest="c" * 64,
            architecture="LlamaForCausalLM",
        )
        blobs = Blobs(DirectoryObjects(folder / "objects"))
        model = self._bench.model
        self._files = AdapterFiles(
            blobs,
            base,
            model.layers,
            folder / "disk",
            EngineMetrics(CollectorRegistry()),
            dtype=model.dtype,
        )
        self._adapters = []
        for path in saved:
            adapter = Adapter(
                name=f"projects/{_PROJECT}/adapters/{path.name}",
                base_model=base.name,
                base_model_digest=base.digest,
                tokenizer_digest=base.tokenizer_digest,
                dataset_digest="d" * 64,
                training_job=f"projects/{_PROJECT}/trainingJobs/ftjob-1",
                files=await import_files(blobs, path),
            )
            adapter.digest = adapter_digest(adapter)
            self._adapters.append(adapter)

    async def forget(self, adapter: Adapter) -> None:
        """Take an adapter off device, memory and disk: it is loaded anew."""
        self.loads += 1
        self._files.drop(adapter.digest)
        await self._bench.scheduler.unload(adapter.digest)

    async def keep(self, _: Adapter) -> None:
        """Leave an adapter where it is."""

    async def pause(self, before: Before | None) -> float:
        """Have all answers written; return the p99 of the seconds between their tokens.

        Beside them, requests come for one adapter after the other; None: no requests.
        """
        rows = [
            self._bench.row(next(self._source).tokens, one, limit=self._count) for one in self._held
        ]
        beside = None if before is None else asyncio.create_task(self._come_by(before))
        answers = await asyncio.gather(*map(self._engine.timed, rows))
        if beside is not None:
            beside.cancel()
            (ended,) = await asyncio.gather(beside, return_exceptions=True)
            if not isinstance(ended, asyncio.CancelledError):
                raise RuntimeError("the requests beside ended") from ended
        return percentile([gap for answer in answers for gap in answer.gaps], 0.99)

    async def _come_by(self, before: Before) -> None:
        for adapter in cycle(self._adapters):
            await before(adapter)
            held = await self._files.get(_PROJECT, adapter)
            prompt = next(self._source).tokens[:_ASIDE_TOKENS]
            await self._engine.timed(self._bench.row(prompt, held, limit=1))
            await asyncio.sleep(_PERIOD_SECONDS)


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    torch.set_num_threads(CORES)
    model = materials.save_model(scale.model, folder / "model")
    saved = materials.save_adapters(model, folder, ADAPTERS)
    with Engine(model, "bf16", threads=CORES, slots=_SLOTS, ranks=_RANKS) as engine:
        street = Street(engine, model, scale.loading_tokens)
        engine.run(street.store(saved, folder))
        found = in_turns(
            {
                "loads": lambda: engine.run(street.pause(street.forget)),
                "none": lambda: engine.run(street.pause(street.keep)),
                "alone": lambda: engine.run(street.pause(None)),
            },
            scale.rounds,
        )
    p99 = medians(found)
    outcome = Outcome(
        "Time between tokens while adapters are loaded (p99)",
        f"{1000 * p99['loads']:.1f} ms",
        f"without loads {1000 * p99['none']:.1f} ms",
        p99["loads"] / p99["none"],
        1.5,
        at_most=True,
    )
    note = (
        f"Loading: {ADAPTERS} answers of {scale.loading_tokens} tokens, and beside them every "
        f"{1000 * _PERIOD_SECONDS:.0f} ms a request of {_ASIDE_TOKENS} tokens for an adapter that "
        f"is read from the directory store ({street.loads} loads), or is on the device already; "
        f"{1000 * p99['alone']:.1f} ms (p99) without requests beside. {CORES} threads."
    )
    return Measurement([outcome], [note], {"threads": CORES, "p99": found})
