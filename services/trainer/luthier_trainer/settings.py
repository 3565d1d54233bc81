"""What the trainer reads from its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from luthier_common.settings import Address, ServiceSettings
from pydantic import Field


class TrainerSettings(ServiceSettings):
    """Settings of the trainer, beside those of every service."""

    dataset_address: Address
    """The dataset service, asked for files."""

    inference_address: Address
    """The inference service, asked for base models and given adapters."""

    work_dir: Path
    """Folder of the runs. May be emptied while the trainer is down; jobs then start over."""

    max_runs: Annotated[int, Field(gt=0)] = 1
    """Runs at the same time on this machine."""

    hang_seconds: Annotated[float, Field(gt=0)] = 300.0
    """A run that reports nothing for so long is killed, and its job tried again."""
