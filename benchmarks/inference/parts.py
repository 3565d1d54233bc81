"""The parts of the benchmark, each run in a process of its own.

`python -m benchmarks.inference.parts PART SCALE FOLDER` prints one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.inference.environments import ROOT
from benchmarks.inference.scale import SCALES

PARTS = {
    "in-process": ("in_process", "measure"),
    "serving": ("serving", "measure"),
    "crowding": ("crowding", "measure"),
    "loading": ("loading", "measure"),
    "precisions": ("precisions", "measure"),
    "gpu": ("in_process", "measure_gpu"),
}
"""By name: module of this package, and its function."""


def measured(part: str, scale: str, folder: Path) -> Measurement:
    """Measure a part in a fresh process; RuntimeError with its words when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inference.parts", part, scale, str(folder)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{part} has failed:\n{done.stderr[-6000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    outcomes = [Outcome(**one) for one in told["outcomes"]]
    return Measurement(outcomes, told["notes"], told["details"])


def main() -> None:
    """Measure the part that the arguments name, here."""
    part, scale, folder = sys.argv[1:]
    module, function = PARTS[part]
    measure = getattr(importlib.import_module(f"benchmarks.inference.{module}"), function)
    print(json.dumps(asdict(measure(SCALES[scale], Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
