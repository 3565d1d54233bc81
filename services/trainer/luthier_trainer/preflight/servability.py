"""Which engines can serve a result, and what that takes.

Facts of vLLM 0.2x: `--max-lora-rank` takes 1, 8, 16, 32, 64, 128, 256, 320 and 512, 16 where it is
not set; adapters on encoder-decoders, DoRA and `modules_to_save` are refused. Of
text-generation-inference 3.x: adapters are named at its start (`LORA_ADAPTERS`), on decoders only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from luthier.trainer.v1.preflight_pb2 import DeviceNeed, EngineSupport, ServingEstimate
from luthier.trainer.v1.tuning_pb2 import Precision

from luthier_trainer.preflight.devices import DeviceClass
from luthier_trainer.preflight.inventory import Inventory
from luthier_trainer.preflight.setup import Setup

ADAPTERS = 100
"""Adapters of the result's kind that are served beside each other."""
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_VLLM_RANK = 16
_WORKING_SHARE = 0.2
"""Of a device's usable memory, for keys and values of requests and what an engine computes in."""
_ADAPTER_BYTES = 4
"""Adapters are stored and held in float32."""
_VLLM_FAMILIES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3"}
)
"""Of the architectures that runs are tested with, those whose vLLM class takes adapters."""


def serving(inventory: Inventory, setup: Setup, devices: Iterable[DeviceClass]) -> ServingEstimate:
    """Return what serving the result takes, the base model held in 16 bits."""
    base = serving_bytes(inventory, Precision.BF16)
    adapter = 0 if setup.full else setup.adapter_parameters(inventory) * _ADAPTER_BYTES
    needs = [
        DeviceNeed(
            device_class=device.name,
            device_count=_devices(base + ADAPTERS * adapter, device),
            adapter_count=0 if setup.full else ADAPTERS,
        )
        for device in devices
    ]
    engines = [_transformers(inventory), _vllm(inventory, setup), _tgi(inventory, setup)]
    return ServingEstimate(base_bytes=base, adapter_bytes=adapter, devices=needs, engines=engines)


def serving_bytes(inventory: Inventory, precision: Precision) -> int:
    """Return the memory of a base model that is only asked: its weights."""
    if precision == Precision.FP32:
        return inventory.parameters * 4
    if precision == Precision.INT8:
        rest = inventory.parameters - inventory.quantized_weights
        return inventory.quantized_weights + rest * 2
    return inventory.parameters * 2


def _devices(held: int, device: DeviceClass) -> int:
    """Devices that hold so much between them, weights split evenly (tensor parallel)."""
    room = device.usable_bytes * (1 - _WORKING_SHARE) - device.machine.fixed_bytes
    return math.ceil(held / room)


def _transformers(inventory: Inventory) -> EngineSupport:
    if inventory.encoder_decoder:
        return _yes("transformers", "asked through completions; it has no chat template")
    return _yes("transformers", "")


def _vllm(inventory: Inventory, setup: Setup) -> EngineSupport:
    if inventory.encoder_decoder:
        return _no("vllm", "it has no encoder-decoder models of this family")
    if setup.full:
        return _yes("vllm", "as a model of its own")
    if inventory.family not in _VLLM_FAMILIES:
        return _no("vllm", f"not known to take adapters on models of the family {inventory.family}")
    if setup.rank > _VLLM_RANKS[-1]:
        return _no("vllm", f"its highest rank is {_VLLM_RANKS[-1]}, this is {setup.rank}")
    if setup.rank > _VLLM_RANK:
        needed = next(rank for rank in _VLLM_RANKS if rank >= setup.rank)
        return _yes("vllm", f"started with --max-lora-rank {needed}")
    return _yes("vllm", "")


def _tgi(inventory: Inventory, setup: Setup) -> EngineSupport:
    if inventory.encoder_decoder:
        told = "as a model of its own" if setup.full else "it takes no adapters on encoder-decoders"
        return (_yes if setup.full else _no)("tgi", told)
    if setup.full:
        return _yes("tgi", "as a model of its own")
    return _yes("tgi", "named in LORA_ADAPTERS when it is started")


def _yes(engine: str, reason: str) -> EngineSupport:
    return EngineSupport(engine=engine, supported=True, reason=reason)


def _no(engine: str, reason: str) -> EngineSupport:
    return EngineSupport(engine=engine, supported=False, reason=reason)
