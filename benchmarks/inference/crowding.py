"""More adapters than places for them on the device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

import torch
from luthier_inference.engine.lora_bank import LoraWeights

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.inference import materials
from benchmarks.inference.engine import Engine
from benchmarks.inference.scale import ADAPTERS, CORES, RANK, Scale
from benchmarks.inference.turns import in_turns, medians


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    torch.set_num_threads(CORES)
    model = materials.save_model(scale.model, folder / "model")
    few, many = f"{ADAPTERS} adapters", f"{scale.crowd} adapters"
    with Engine(model, "bf16", threads=CORES) as engine:
        held = [random_adapter(engine, number) for number in range(scale.crowd)]
        speeds = in_turns(
            {
                few: _asking(engine, held[:ADAPTERS], model, scale),
                many: _asking(engine, held, model, scale),
            },
            scale.rounds,
        )
    speed = medians(speeds)
    outcome = Outcome(
        f"{many} on {ADAPTERS} slots, Zipf(1)",
        f"{speed[many]:,.0f} tokens/s",
        f"{few} {speed[few]:,.0f} tokens/s",
        speed[many] / speed[few],
        0.9,
    )
    note = (
        f"{many}: {scale.crowd_requests} requests a round, {ADAPTERS} at a time, answers of "
        f"{scale.new_tokens} tokens; adapters are in host memory; {CORES} threads."
    )
    return Measurement([outcome], [note], {"threads": CORES, "tokens_per_second": speeds})


def random_adapter(engine: Engine, seed: int) -> LoraWeights:
    """Return an adapter of random weights for every layer, as the engine holds it in memory."""
    torch.manual_seed(seed)
    dtype = engine.bench.model.dtype
    layers = {
        name: (
            torch.randn(RANK, inputs).mul_(materials.LORA_SPREAD).to(dtype),
            torch.randn(outputs, RANK).mul_(materials.LORA_SPREAD).to(dtype),
        )
        for name, (inputs, outputs) in engine.bench.model.layers.items()
    }
    return LoraWeights(f"{seed:064}", RANK, 2.0, layers)


def zipf(chance: Random, kinds: int, draws: int) -> list[int]:
    """Draw numbers below `kinds`, each as often as its place in a row says (exponent 1)."""
    return chance.choices(range(kinds), [1 / place for place in range(1, kinds + 1)], k=draws)


def _asking(
    engine: Engine, held: list[LoraWeights], model: Path, scale: Scale
) -> Callable[[], float]:
    """Return who asks in so many loops at once, and tells in tokens a second how fast it went."""
    source, rounds = materials.prompts(model, "crowd"), count()

    async def ask(queue: list[int]) -> int:
        written = 0
        while queue:
            adapter = held[queue.pop()]
            row = engine.bench.row(next(source).tokens, adapter, limit=scale.new_tokens)
            written += len((await engine.timed(row)).tokens)
        return written

    async def everything() -> float:
        queue = zipf(Random(next(rounds)), len(held), scale.crowd_requests)
        start = time.perf_counter()
        written = await asyncio.gather(*(ask(queue) for _ in range(ADAPTERS)))
        return sum(written) / (time.perf_counter() - start)

    return lambda: engine.run(everything())
