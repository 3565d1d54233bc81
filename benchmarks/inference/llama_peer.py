"""llama.cpp's single stream, where `make bench-inference` has built it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.inference import materials, peers
from benchmarks.inference.environments import LLAMA_CPP
from benchmarks.inference.scale import CORES, Scale
from benchmarks.inference.turns import agreeing

NAME = "llama.cpp"


def latencies(model: Path, scale: Scale) -> dict[str, list[float]]:
    """Return the seconds between tokens of some answers; nothing where it is not installed.

    Before, its greedy tokens in float32 are compared with Hugging Face's.
    """
    if not LLAMA_CPP.installed:
        return {}
    source = materials.prompts(model, "llama.cpp")
    asked = [next(source).tokens for _ in range(1 + scale.rounds)]
    exact = _run(model, "fp32", asked[:1], scale.new_tokens)
    (expected,) = peers.written(peers.load(model, "fp32"), asked[:1], scale.new_tokens)
    agreeing(expected, exact["tokens"][0], NAME)
    return {NAME: _run(model, "bf16", asked, scale.stream_tokens)["latencies"][1:]}


def shown(latency: float | None, ours: float) -> str:
    """Return the figure for people."""
    if latency is None:
        return f"{NAME}: not measured, it is not installed in .venv-llamacpp."
    return (
        f"Single stream, beside: {NAME} {1000 * latency:.1f} ms between tokens, ours is "
        f"{ours / latency:.2f} times that; it ran after the others, in a process of its own, its "
        "tokens in float32 compared, too."
    )


def _run(model: Path, precision: str, asked: list[list[int]], count: int) -> dict[str, list]:  # type: ignore[type-arg]
    task = {
        "model": str(model),
        "precision": precision,
        "prompts": asked,
        "count": count,
        "threads": CORES,
    }
    done = subprocess.run(
        [LLAMA_CPP.python, Path(__file__).with_name("llama_child.py"), json.dumps(task)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{NAME} has failed:\n{done.stderr[-4000:]}")
    told: dict[str, list] = json.loads(done.stdout.splitlines()[-1])  # type: ignore[type-arg]
    return told
