"""The results of the trainer: as those of the datasets, with other names."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from luthier_standalone.demo.machine import machine_facts

from benchmarks.datasets.report import Results
from benchmarks.trainer.racing import FACTORY_PYTHON

_HEADING = """# Trainer: speed

Made by `make bench-trainer`; see [what is measured](../trainer/README.md).
"""
_VERSION = "import importlib.metadata as m; print(m.version('{}'))"


class TrainerResults(Results):
    """Everything one run found, and on what."""

    def markdown(self) -> str:
        """Return the results for people."""
        *_, body = super().markdown().split("\n", 3)
        return _HEADING + body

    def write(self, folder: Path) -> None:
        """Write trainer.md and trainer.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trainer.md").write_text(self.markdown(), encoding="utf-8")
        (folder / "trainer.json").write_text(self.json(), encoding="utf-8")


def facts() -> dict[str, str]:
    """Return what the figures are measured on, and how busy that is before the start."""
    found = machine_facts()
    found["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    found |= {package: version(package) for package in ("accelerate", "datasets")}
    if FACTORY_PYTHON.exists():
        found |= {f"{name} (its own)": _factory(name) for name in ("transformers", "trl", "peft")}
        found["llamafactory"] = _factory("llamafactory")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "load average before the start": f"{os.getloadavg()[0]:.2f}",
        **found,
    }


def _factory(package: str) -> str:
    """Return the version of a package in LLaMA-Factory's environment."""
    code = _VERSION.format(package)
    told = subprocess.run([FACTORY_PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return told.stdout.strip()
