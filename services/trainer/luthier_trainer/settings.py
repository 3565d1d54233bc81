"""What the trainer reads from its environment."""

from __future__ import annotations

from collections.abc import Mapping
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

    stop_seconds: Annotated[float, Field(gt=0)] = 30.0
    """How long a run that is told to stop may take to save its state."""

    device_prices: Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Price of an hour by device class, as JSON: `{"NVIDIA A100-SXM4-80GB": 2.5, "cpu": 0.1}`."""

    price_currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """The currency of prices (ISO 4217)."""
