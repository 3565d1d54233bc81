"""Streams over HTTP, through our gateway and service to the engine, beside vLLM's server."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.inference import client, materials, servers
from benchmarks.inference.client import Door, Load
from benchmarks.inference.environments import VLLM
from benchmarks.inference.materials import Prompt
from benchmarks.inference.scale import ADAPTERS, ENGINE_THREADS, Scale
from benchmarks.inference.servers import Vllm
from benchmarks.inference.turns import MARGIN, Written, agreeing, in_turns

OURS, LORA, PLAIN = "Luthier", "vLLM with LoRA", "vLLM without LoRA"


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    if not VLLM.installed:
        return Measurement([], ["Over HTTP: not measured, vLLM is not installed in .venv-vllm."])
    model = materials.save_model(scale.model, folder / "model")
    # The first of the cold ones does not count.
    saved = materials.save_adapters(model, folder, ADAPTERS + scale.cold_adapters)
    checked = _check(model, saved[:ADAPTERS], scale, folder)
    with (
        servers.luthier(folder / "ours", model, saved, "bf16") as door,
        servers.vllm(folder / "lora", model, saved[:ADAPTERS], "bf16") as lora,
        servers.vllm(folder / "plain", model, [], "bf16") as plain,
    ):
        loads = in_turns(_loads(door, lora, plain, model, scale), scale.rounds)
        cold = in_turns(_colds(door, lora, saved, model), scale.cold_adapters - 1)
    notes = [
        checked,
        f"Over HTTP: {ADAPTERS} connections, each with an adapter of its own (without LoRA: the "
        f"base), {scale.requests} requests one after the other, {ENGINE_THREADS} threads of torch "
        "for each engine; vLLM's processes stand still while others are asked.",
        f"Over HTTP, {PLAIN}: first token after "
        f"{1000 * _first(loads[PLAIN]):,.0f} ms; a loaded adapter's, ours asked alone: "
        f"{1000 * statistics.median(cold['Luthier, warm']):.0f} ms.",
    ]
    details = {
        "threads": ENGINE_THREADS,
        "loads": {name: [asdict(one) for one in rounds] for name, rounds in loads.items()},
        "cold": cold,
    }
    return Measurement([*_load_outcomes(loads), _cold_outcome(cold)], notes, details)


def _check(model: Path, adapters: list[Path], scale: Scale, folder: Path) -> str:
    """Have both write the same in float32, and return what was compared."""
    source = materials.prompts(model, "check")
    asked = [next(source) for _ in range(1 + ADAPTERS)]
    count, same = scale.new_tokens, 0
    with (
        servers.luthier(folder / "exact", model, adapters, "fp32") as door,
        servers.vllm(folder / "exact-peer", model, adapters, "fp32") as peer,
        peer.awake() as other,
    ):
        ours, theirs = (asyncio.run(_answers(one, asked, count)) for one in (door, other))
    for expected, given in zip(ours, theirs, strict=True):
        same += agreeing(expected, given.tokens, "vLLM")
    return (
        f"Over HTTP, before: in float32, {same} of {len(asked) * count} greedy tokens of the base "
        f"and {ADAPTERS} adapters are vLLM's; the others follow where two logits were closer than "
        f"{MARGIN:g}."
    )


async def _answers(door: Door, asked: list[Prompt], count: int) -> list[Written]:
    """Ask all adapters at once, and the base alone.

    Beside adapters, vLLM 0.32's base is off on CPUs: in `lora/ops/torch_ops/lora_ops.py` a row
    without an adapter, number -1, is given the one in the last slot.
    """
    base = await client.written(door, [door.base], asked[:1], count)
    return base + await client.written(door, door.adapters, asked[1:], count)


def _loads(
    door: Door, lora: Vllm, plain: Vllm, model: Path, scale: Scale
) -> dict[str, Callable[[], Load]]:
    def ask(one: Door, models: list[str], source: Iterator[Prompt]) -> Load:
        return asyncio.run(client.load(one, models, source, scale.requests, scale.new_tokens))

    def theirs(server: Vllm, models: list[str], source: Iterator[Prompt]) -> Load:
        with server.awake() as one:
            return ask(one, models, source)

    first, second, third = (materials.prompts(model, "loads") for _ in range(3))
    return {
        OURS: lambda: ask(door, door.adapters[:ADAPTERS], first),
        LORA: lambda: theirs(lora, lora.door.adapters, second),
        PLAIN: lambda: theirs(plain, [plain.door.base] * ADAPTERS, third),
    }


def _colds(
    door: Door, lora: Vllm, saved: list[Path], model: Path
) -> dict[str, Callable[[], float]]:
    """Return who loads an adapter that it has never seen and writes a token with it."""
    source = materials.prompts(model, "cold")
    ours, theirs = iter(door.adapters[ADAPTERS:]), iter(saved[ADAPTERS:])

    async def first(one: Door, name: str, path: Path | None = None) -> float:
        async with one.client() as http:
            await http.get("/v1/models")  # the connection is there before
            start = time.perf_counter()
            if path is not None:
                body = {"lora_name": name, "lora_path": str(path)}
                (await http.post("/v1/load_lora_adapter", json=body)).raise_for_status()
            loaded = time.perf_counter() - start
            return loaded + (await client.stream(http, name, next(source), 1)).first

    def peer() -> float:
        path = next(theirs)
        with lora.awake() as one:
            return asyncio.run(first(one, path.name, path))

    return {
        OURS: lambda: asyncio.run(first(door, next(ours))),
        LORA: peer,
        "Luthier, warm": lambda: asyncio.run(first(door, door.adapters[0])),
    }


def _load_outcomes(loads: dict[str, list[Load]]) -> list[Outcome]:
    what = f"{ADAPTERS} adapters, {ADAPTERS} connections, HTTP streams"
    speed = {name: statistics.median(one.speed for one in told) for name, told in loads.items()}
    first = {name: _first(told) for name, told in loads.items()}
    return [
        *(
            Outcome(
                what,
                f"{speed[OURS]:,.0f} tokens/s",
                f"{peer} {speed[peer]:,.0f} tokens/s",
                speed[OURS] / speed[peer],
                goal,
            )
            for peer, goal in ((LORA, 6), (PLAIN, 1))
        ),
        Outcome(
            "The same, time to first token (p50)",
            f"{1000 * first[OURS]:,.0f} ms",
            f"{LORA} {1000 * first[LORA]:,.0f} ms",
            first[OURS] / first[LORA],
            round(1 / 12, 3),
            at_most=True,
        ),
    ]


def _first(loads: list[Load]) -> float:
    return statistics.median(one.first for one in loads)


def _cold_outcome(cold: dict[str, list[float]]) -> Outcome:
    ours, theirs = statistics.median(cold[OURS]), statistics.median(cold[LORA])
    return Outcome(
        "Cold adapter, loaded and first token, HTTP",
        f"{1000 * ours:.0f} ms",
        f"vLLM's load call and first token {1000 * theirs:.0f} ms",
        ours / theirs,
        0.2,
        at_most=True,
    )
