"""What an engine reads from its environment; the router writes it."""

from __future__ import annotations

from pathlib import Path

from luthier_common.settings import ServiceSettings

from luthier_inference.settings import Precision


class EngineSettings(ServiceSettings):
    """Settings of an engine, beside those of every service."""

    work_dir: Path
    """Scratch folder, where base models are kept by digest."""

    engine_precision: Precision
    """How the base model is held."""

    engine_base_model: str
    """The base model's record, as JSON."""
