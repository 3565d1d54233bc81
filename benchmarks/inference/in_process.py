"""Mixed adapters, and a single stream, beside Hugging Face and PEFT in the same process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from luthier_inference.engine.lora_bank import LoraWeights

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.inference import llama_peer, materials, peers
from benchmarks.inference.engine import Engine
from benchmarks.inference.materials import Prompt
from benchmarks.inference.scale import ADAPTERS, CORES, Scale
from benchmarks.inference.turns import MARGIN, agreeing, in_turns, medians
from tests.support.engine_rows import weights

OURS, BASE, PEFT, HUGGING_FACE = "Luthier", "Luthier, base", "PEFT", "Hugging Face"


@dataclass(frozen=True)
class Given:
    """A model, adapters for it, and how long answers are."""

    model: Path
    adapters: list[Path]
    scale: Scale

    @property
    def names(self) -> list[str]:
        """What PEFT calls the adapters."""
        return [folder.name for folder in self.adapters]


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    return _measure(scale.model, scale, folder, "")


def measure_gpu(scale: Scale, folder: Path) -> Measurement:
    """Measure the same with a large model, where there is a GPU."""
    if not torch.cuda.is_available():
        return Measurement([], ["7 billion weights: not measured, there is no GPU."])
    device = torch.cuda.get_device_name()
    return _measure(scale.gpu_model, scale, folder, f", 7 billion weights on {device}")


def _measure(name: str, scale: Scale, folder: Path, where: str) -> Measurement:
    torch.set_num_threads(CORES)
    model = materials.save_model(name, folder / "model")
    given = Given(model, materials.save_adapters(model, folder, ADAPTERS), scale)
    checked = _check(given)
    with Engine(model, "bf16", threads=CORES) as engine:
        hugging_face = peers.load(model, "bf16")
        tuned = peers.with_adapters(peers.load(model, "bf16"), given.adapters)
        speeds = in_turns(_batches(given, engine, hugging_face, tuned), scale.rounds)
        latencies = in_turns(_streams(given, engine, hugging_face), scale.rounds)
        beside = llama_peer.latencies(model, scale) if not torch.cuda.is_available() else {}
    speed, latency = medians(speeds), medians(latencies | beside)
    notes = [
        checked + where + ".",
        f"In process{where}: {CORES} threads for each; the engine's own base, batch of "
        f"{ADAPTERS}: {speed[BASE]:,.0f} tokens/s.",
    ]
    if not where:
        notes.append(llama_peer.shown(latency.get(llama_peer.NAME), latency[OURS]))
    details = {"threads": CORES, "tokens_per_second": speeds, "latency": latencies | beside}
    return Measurement(_outcomes(speed, latency, where), notes, details)


def _outcomes(speed: dict[str, float], latency: dict[str, float], where: str) -> list[Outcome]:
    mixed = f"{ADAPTERS} adapters mixed, in process{where}"
    ours = f"{speed[OURS]:,.0f} tokens/s"
    return [
        Outcome(
            mixed,
            ours,
            f"PEFT, adapter_names {speed[PEFT]:,.0f} tokens/s",
            speed[OURS] / speed[PEFT],
            2.2,
        ),
        Outcome(
            mixed,
            ours,
            f"Hugging Face, base alone {speed[HUGGING_FACE]:,.0f} tokens/s",
            speed[OURS] / speed[HUGGING_FACE],
            0.9,
        ),
        Outcome(
            f"Single stream, time between tokens{where}",
            f"{1000 * latency[OURS]:.1f} ms",
            f"Hugging Face {1000 * latency[HUGGING_FACE]:.1f} ms",
            latency[OURS] / latency[HUGGING_FACE],
            0.7,
            at_most=True,
        ),
    ]


def _check(given: Given) -> str:
    """Have all write the same in float32, and return what was compared."""
    count = given.scale.new_tokens
    source = materials.prompts(given.model, "check")
    asked = [next(source).tokens for _ in given.adapters]
    model = peers.load(given.model, "fp32")
    alone = peers.written(model, asked, count)
    model = peers.with_adapters(model, given.adapters)
    mixed = peers.written(model, asked, count, adapter_names=given.names)
    if any(one.tokens == other.tokens for one, other in zip(alone, mixed, strict=True)):
        raise AssertionError("adapters that change nothing prove nothing")
    del model
    gc.collect()
    torch.cuda.empty_cache()
    same = 0
    with Engine(given.model, "fp32", threads=CORES) as engine:
        held = list(map(weights, given.adapters))
        for expected, adapters in ((alone, [None] * len(asked)), (mixed, held)):
            answers = engine.write(asked, adapters, count)
            same += sum(map(agreeing, expected, answers, [OURS] * len(asked)))
    return (
        f"Before: in float32, {same} of {2 * len(asked) * count} greedy tokens are Hugging Face's "
        f"and PEFT's; the others follow where two logits were closer than {MARGIN:g}"
    )


def _batches(
    given: Given, engine: Engine, hugging_face: Any, tuned: Any
) -> dict[str, Callable[[], float]]:
    """Return who writes a batch, and tells in tokens a second how fast that was."""
    count = given.scale.new_tokens
    held = [_cast(weights(folder), engine) for folder in given.adapters]

    def ours(adapters: Sequence[LoraWeights | None]) -> Callable[[list[list[int]]], object]:
        return lambda asked: engine.write(asked, adapters, count)

    works: dict[str, Callable[[list[list[int]]], object]] = {
        OURS: ours(held),
        PEFT: lambda asked: peers.generate(tuned, asked, count, adapter_names=given.names),
        HUGGING_FACE: lambda asked: peers.generate(hugging_face, asked, count),
        BASE: ours([None] * ADAPTERS),
    }
    return {name: _speed_of(work, given) for name, work in works.items()}


def _speed_of(work: Callable[[list[list[int]]], object], given: Given) -> Callable[[], float]:
    source = materials.prompts(given.model, "batches")

    def run() -> float:
        asked = [next(source).tokens for _ in range(ADAPTERS)]
        start = time.perf_counter()
        work(asked)
        return ADAPTERS * given.scale.new_tokens / (time.perf_counter() - start)

    return run


def _streams(given: Given, engine: Engine, hugging_face: Any) -> dict[str, Callable[[], float]]:
    """Return who writes one answer, and tells the seconds between its tokens."""
    count = given.scale.stream_tokens

    def ours(source: Iterator[Prompt]) -> float:
        row = engine.bench.row(next(source).tokens, limit=count)
        return engine.run(engine.timed(row)).latency

    def theirs(source: Iterator[Prompt]) -> float:
        clock = peers.Clock()
        peers.generate(hugging_face, [next(source).tokens], count, streamer=clock)
        return clock.latency

    sources = [materials.prompts(given.model, "streams") for _ in range(2)]
    return {OURS: lambda: ours(sources[0]), HUGGING_FACE: lambda: theirs(sources[1])}


def _cast(held: LoraWeights, engine: Engine) -> LoraWeights:
    """Return an adapter as the engine holds it in memory: in the type of its products."""
    dtype = engine.bench.model.dtype
    layers = {name: (a.to(dtype), b.to(dtype)) for name, (a, b) in held.layers.items()}
    return LoraWeights(held.digest, held.rank, held.scale, layers)
