"""Contenders, each run in a process of its own, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.trainer.child import Run, Task

_ROOT = Path(__file__).parents[2]
FACTORY_PYTHON = _ROOT / ".venv-llamafactory" / "bin" / "python"
_SECONDS = 1800.0


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    rows: int
    """Of a round of the race of trainers."""
    compared_rows: int
    """Of the two runs whose losses are compared step by step."""
    model: str
    """That the trainers race with; a name of `materials.SHAPES`."""
    quantized_model: str
    quantized_rows: int
    jobs: int
    """Whose overhead is measured."""


FULL = Scale(
    rounds=3,
    rows=256,
    compared_rows=64,
    model="m512",
    quantized_model="m1024",
    quantized_rows=64,
    jobs=3,
)
QUICK = Scale(
    rounds=1,
    rows=48,
    compared_rows=24,
    model="tiny",
    quantized_model="tiny",
    quantized_rows=24,
    jobs=1,
)


@dataclass(frozen=True)
class Contender:
    """Who runs, and how."""

    name: str
    module: str
    """Of this package, run in a process."""
    option: str
    """See the module."""
    batch: int
    python: Path = Path(sys.executable)


@dataclass(frozen=True)
class Given:
    """What all contenders of a race are given; see `materials`."""

    model: Path
    adapter: Path
    rows: Path
    tokens: int
    """Of the rows."""
    longest: int
    precision: str


def race(contenders: list[Contender], given: Given, rounds: int) -> dict[str, list[Run]]:
    """Let contenders run in turns, so many rounds, and return the runs of each by name."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            runs[contender.name].append(run(contender, given))
    return runs


def run(contender: Contender, given: Given) -> Run:
    """Let one contender run, in a fresh process and a fresh folder."""
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        task = Task(
            model=str(given.model),
            adapter=str(given.adapter),
            rows=str(given.rows),
            folder=folder,
            option=contender.option,
            batch=contender.batch,
            longest=given.longest,
            precision=given.precision,
            learning_rate=1e-3,
        )
        done = subprocess.run(
            [contender.python, "-m", f"benchmarks.trainer.{contender.module}", task.spelled()],
            cwd=_ROOT,
            env=os.environ | _surroundings(),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{contender.name} has failed:\n{done.stderr[-4000:]}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def median_speed(runs: list[Run], tokens: int) -> float:
    """Return the median of real tokens a second over `train()`."""
    return statistics.median(tokens / run.seconds for run in runs)


def details(runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    """Return all that the runs told, for programs."""
    return {name: [vars(run) for run in told] for name, told in runs.items()}


def _surroundings() -> dict[str, str]:
    """No hub is asked for anything, and LLaMA-Factory finds the empty `torchaudio` it asks for."""
    stand_ins = Path(__file__).with_name("stand_ins")
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONPATH": os.pathsep.join(map(str, (stand_ins, _ROOT))),
        "DISABLE_VERSION_CHECK": "1",
    }
