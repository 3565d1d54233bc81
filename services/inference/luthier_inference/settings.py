"""What the inference service reads from its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from luthier_common.errors import InvalidArgument
from luthier_common.names import parse
from luthier_common.settings import ServiceSettings
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from luthier_inference.engines.configuration import Engines
from luthier_inference.origins import BASE_MODEL


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _base_model(name: str) -> str:
    try:
        parse(name, BASE_MODEL, field=name)
    except InvalidArgument as error:
        raise ValueError(error.message) from None
    return name


Precision = Literal["fp32", "bf16", "fp16", "int8", "nf4", "nf4-packed"]
"""How engines hold a base model's linear layers: in 32 or 16 bits, in 8, or as 4-bit NF4 with
double quantization, which is what adapters are tuned on. Without a GPU, `nf4` holds the rounded
weights as the numbers they stand for, which is fast and exact; `nf4-packed` keeps them in 4 bits.
"""


class InferenceSettings(ServiceSettings):
    """Settings of the inference service, beside those of every service."""

    work_dir: Path
    """Scratch folder, where engines keep base models; may be emptied while they are down."""

    preload_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Base models, by full name with commas between, whose engines run before they are asked."""

    max_engines: Annotated[int, Field(ge=1)] = 2
    """Most engine processes at a time; the one idle for longest makes room."""

    engine_precision: Precision = "nf4"
    """How engines hold base models."""

    engines: dict[Annotated[str, AfterValidator(_base_model)], Engines] = Field(
        default_factory=dict
    )
    """Which engine serves which base model, by full name; others get one process of ours, such as
    {"projects/library/baseModels/llama": {"kind": "vllm", "urls": ["http://vllm:8000"]}}."""
