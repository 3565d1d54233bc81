"""Measures the peak memory of runs, each in a process of its own, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters
from luthier_trainer.lines import most_tokens
from luthier_trainer.preflight.inventory import Inventory, Tensor, take_inventory
from luthier_trainer.preflight.setup import Setup, setup_of
from luthier_trainer.preflight.steps import Layout, passes_of

from benchmarks.preflight.configurations import Configuration

THREADS = "1"
"""More of them wait for each other, spinning, where the machine has other work."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class Peak:
    """What one run held."""

    baseline: int
    """Bytes of the process once everything is imported."""
    peak: int
    """The most bytes that it held above that."""


def measure(configuration: Configuration, model: Path) -> Peak:
    """Run a configuration; RuntimeError with the run's words if it fails."""
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.preflight.child",
                json.dumps(asdict(configuration)),
                str(model),
                f"{folder}/run",
            ],
            env={**os.environ, **_OFFLINE, "OMP_NUM_THREADS": THREADS},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{configuration.name} failed:\n{done.stderr[-4000:]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def inventory_of(model: Path) -> Inventory:
    """Return the inventory of a saved model."""
    config = json.loads((model / "config.json").read_text())
    with (model / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    tensors = [Tensor(name, tuple(one["shape"]), one["dtype"]) for name, one in header.items()]
    return take_inventory(config, tensors)


def setup_for(configuration: Configuration, inventory: Inventory) -> Setup:
    """Return what the estimator is told of a configuration."""
    chosen = ResolvedHyperparameters(**configuration.settings)
    side = [configuration.line_tokens]
    layout = Layout(
        most=most_tokens(chosen) if configuration.method == "text" else 0,
        preference=configuration.method == "preference",
        encoder_decoder=inventory.encoder_decoder,
    )
    chosen.max_row_tokens = configuration.line_tokens
    sides = 1 if configuration.method == "text" else 2
    passes = passes_of([side * sides] * chosen.batch_size, chosen, layout, seed=1)
    return setup_of(chosen, inventory, passes, preference=configuration.method == "preference")
