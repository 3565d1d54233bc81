"""The launcher port: how a run comes to a machine. Here as a child process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.children import Child, spawn

from luthier_trainer.run_settings import run_environment
from luthier_trainer.settings import TrainerSettings


class Run(Protocol):
    """A run at work."""

    async def wait(self) -> int:
        """Wait for its end and return the exit code; negative when a signal ended it."""

    async def stop(self, grace_seconds: float) -> None:
        """Ask it to save its state and end (SIGTERM); kill it when it has not after so long."""


class Launcher(Protocol):
    """Starts runs."""

    async def launch(self, job: TrainingJob, base: BaseModel, folder: Path) -> Run:
        """Start the run of `job`, which has been claimed, with `folder` to work in."""


class ChildProcessLauncher:
    """Runs as children of the trainer, which die with it."""

    def __init__(self, settings: TrainerSettings, address: str) -> None:
        self._settings = settings
        self._address = address

    async def launch(self, job: TrainingJob, base: BaseModel, folder: Path) -> Run:
        """See the port."""
        environment = run_environment(self._settings, self._address, folder, job, base)
        child = await spawn(sys.executable, "-m", "luthier_trainer.run", env=environment)
        return _ChildRun(child)


class _ChildRun:
    def __init__(self, child: Child) -> None:
        self._child = child

    async def wait(self) -> int:
        return await self._child.wait()

    async def stop(self, grace_seconds: float) -> None:
        await self._child.stop(grace_seconds)
