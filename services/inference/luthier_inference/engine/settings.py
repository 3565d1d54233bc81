"""What an engine reads from its environment; the router writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from luthier_common.settings import ServiceSettings
from pydantic import Field

from luthier_inference.settings import Precision


class EngineSettings(ServiceSettings):
    """Settings of an engine, beside those of every service."""

    work_dir: Path
    """Scratch folder, where base models and adapters are kept by digest."""

    engine_precision: Precision
    """How the base model is held."""

    engine_base_model: str
    """The base model's record, as JSON."""

    engine_threads: Annotated[int, Field(ge=0)] = 0
    """Threads that compute; 0 means half the cores."""

    engine_adapter_slots: Annotated[int, Field(ge=1)] = 32
    """Adapters on the device at the same time."""

    engine_adapter_ranks: Annotated[int, Field(ge=1)] = 2048
    """Ranks of all adapters on the device together."""

    engine_host_bytes: Annotated[int, Field(ge=1)] = 2 << 30
    """Adapters in the machine's memory."""

    engine_disk_bytes: Annotated[int, Field(ge=1)] = 20 << 30
    """Adapters on disk."""

    engine_cache_bytes: Annotated[int, Field(ge=0)] = 0
    """Keys and values of requests; 0 means a share of the memory that is free after loading."""

    engine_rows: Annotated[int, Field(ge=1)] = 32
    """Answers written at the same time."""

    engine_waiting: Annotated[int, Field(ge=1)] = 1000
    """Requests that may wait; more are refused."""
