"""Which engine serves which base model, as the operator configures it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    StringConstraints,
)

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's `--max-lora-rank` (vllm/config/lora.py, 0.32)."""


def _is_vllm_rank(rank: int) -> int:
    if rank not in VLLM_RANKS:
        raise ValueError(f"must be one of {', '.join(map(str, VLLM_RANKS))}")
    return rank


def _unlike(urls: tuple[HttpUrl, ...]) -> tuple[HttpUrl, ...]:
    if len(set(urls)) != len(urls):
        raise ValueError("must be different replicas")
    return urls


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Urls = Annotated[tuple[HttpUrl, ...], Field(min_length=1), AfterValidator(_unlike)]


class _Engines(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    max_calls: Annotated[int, Field(ge=1)] = 256
    """Most calls at a time, those that wait included; more are refused with a retry time."""


class ProcessEngines(_Engines):
    """Our own engine processes."""

    kind: Literal["process"] = "process"

    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Most processes; a further one is started when requests wait in all that run."""


class _Servers(_Engines):
    urls: _Urls
    """Where the replicas are; all serve the same model with the same options."""

    base_model_digest: Digest | Literal[""] = ""
    """The digest of the snapshot that the servers hold; a base model of another is not asked."""

    api_key: SecretStr = SecretStr("")
    """Sent as bearer token."""

    adapters_dir: Path | None = None
    """The folder that the servers see under the same path, where adapters are put for them; absent
    means `adapters` in the work folder."""


class VllmEngines(_Servers):
    """vLLM's OpenAI server, started with `--enable-lora` and run-time loading allowed."""

    kind: Literal["vllm"]

    model: str = ""
    """What its `/v1/models` calls the base model, by `id` or `root`; empty takes the only one."""

    max_lora_rank: Annotated[int, AfterValidator(_is_vllm_rank)] = 16
    """Its `--max-lora-rank`."""

    max_adapters: Annotated[int, Field(ge=1)] = 256
    """Most adapters it is told of; the one unused for longest is unloaded for another."""

    on_gpu: bool = False
    """Whether they compute on GPUs, where the base needs no `zero_adapter`; vLLM does not tell."""


class TgiEngines(_Servers):
    """text-generation-inference, with adapters that are fixed at its start."""

    kind: Literal["tgi"]

    adapters: tuple[Digest, ...] = ()
    """Digests of the adapters it was started with, named so in `LORA_ADAPTERS`."""


Engines = Annotated[ProcessEngines | VllmEngines | TgiEngines, Field(discriminator="kind")]
