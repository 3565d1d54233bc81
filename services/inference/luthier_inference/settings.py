"""What the inference service reads from its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from luthier_common.settings import ServiceSettings
from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


Precision = Literal["fp32", "nf4"]
"""How engines hold a base model's linear layers: as stored, or as 4-bit NF4 with double
quantization, which is what adapters are tuned on."""


class InferenceSettings(ServiceSettings):
    """Settings of the inference service, beside those of every service."""

    work_dir: Path
    """Scratch folder, where engines keep base models; may be emptied while they are down."""

    preload_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Base models, by full name with commas between, whose engines run before they are asked."""

    max_engines: Annotated[int, Field(ge=1)] = 2
    """Most engines at a time; the one idle for longest makes room."""

    engine_precision: Precision = "nf4"
    """How engines hold base models."""
