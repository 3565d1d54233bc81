"""What each precision costs and saves: memory, time and right answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.datasets.measuring import Measurement
from benchmarks.inference import materials, teaching
from benchmarks.inference.environments import ROOT
from benchmarks.inference.scale import ENGINE_THREADS, Scale

PRECISIONS = ("fp32", "bf16", "int8", "nf4", "nf4-packed")


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    model = materials.save_model(scale.model, folder / "model")
    adapter = teaching.teach(scale.epochs, folder)
    rows = [_row(precision, model, adapter, scale) for precision in PRECISIONS]
    notes = [
        "Precisions: memory and time of the model of random weights; right answers of the starter "
        "model with an adapter tuned (NF4) on the demo's facts, to its examination in words that "
        "were not taught, and without the adapter to questions about a text; divergence and "
        "likeliest tokens of the probe that its tuning left. "
        f"{ENGINE_THREADS} threads."
    ]
    return Measurement([], notes, {"threads": ENGINE_THREADS, "rows": rows})


def _row(precision: str, model: Path, adapter: Path, scale: Scale) -> dict[str, Any]:
    """Measure one precision in a process of its own."""
    task = {
        "precision": precision,
        "model": str(model),
        "adapter": str(adapter),
        "tokens": scale.stream_tokens,
        "questions": scale.read_questions,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inference.precision_child", json.dumps(task)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{precision} has failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"precision": precision, **found}
