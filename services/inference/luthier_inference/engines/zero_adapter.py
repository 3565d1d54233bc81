"""An adapter that changes nothing, under which a vLLM server is asked for its base model.

On CPUs, vLLM 0.32 gives a row without an adapter the number -1, and reads that as the last slot
(vllm/lora/ops/torch_ops/lora_ops.py): beside rows with adapters, and once all slots are taken, the
base would answer with somebody's adapter. A row of the zero adapter has a slot like all others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.errors import FailedPrecondition
from luthier_common.names import parent_of, project_of
from luthier_common.objects.blobs import Blobs

from luthier_inference.adapter_checks import WEIGHTS
from luthier_inference.adapters import CONFIG
from luthier_inference.base_layers import BaseLayers, Layer
from luthier_inference.digests import adapter_digest
from luthier_inference.engines.vllm_adapters import CANNOT_LOAD, VllmAdapters

_NUMBER_BYTES = 4


async def load_zero_adapter(
    base: BaseModel, blobs: Blobs, adapters: VllmAdapters, *, others: bool
) -> Adapter | None:
    """Have the server hold the zero adapter of `base`, and return it.

    None where no adapter can ever be beside the base: the server loads none, and there are no
    `others` of its start. FailedPrecondition when it does not take this one.
    """
    zero = await _zero_adapter(base, blobs)
    try:
        async with adapters.use(zero):
            if adapters.limit > 1:  # the only place is taken in turns
                adapters.pin(zero.digest)
    except FailedPrecondition as error:
        if error.reason != CANNOT_LOAD or others:
            raise
        return None
    return zero


async def _zero_adapter(base: BaseModel, blobs: Blobs) -> Adapter:
    """Store the files, and return the record of what they are; the registry has none."""
    name, layer = _attention_layer(base, await BaseLayers(blobs).of(base))
    config = {
        "peft_type": "LORA",
        "r": 1,
        "lora_alpha": 1,
        "target_modules": [name.rpartition(".")[2]],
    }
    contents = {CONFIG: json.dumps(config).encode(), WEIGHTS: _zeros(name, layer)}
    files = []
    for path, data in contents.items():
        blob = await blobs.put_bytes(project_of(base.name), data)
        files.append(ModelFile(path=path, sha256=blob.sha256, size_bytes=blob.size))
    zero = Adapter(
        name=f"{parent_of(base.name)}/adapters/zero",
        base_model=base.name,
        base_model_digest=base.digest,
        tokenizer_digest=base.tokenizer_digest,
        files=files,
    )
    zero.digest = adapter_digest(zero)
    return zero


def _attention_layer(base: BaseModel, layers: Mapping[str, Layer]) -> tuple[str, Layer]:
    """Return a layer that vLLM adapts, whatever the model; it takes no adapter without any."""
    for name in sorted(layers):
        if "attn" in name or "attention" in name:
            return name, layers[name]
    raise FailedPrecondition(
        f"{base.name} has no attention layer that is known, so that it cannot be told from its "
        "adapters on a CPU; serve it with our own engine, or set on_gpu where it is",
        reason="ENGINE_CANNOT_SERVE",
        field="model",
    )


def _zeros(name: str, layer: Layer) -> bytes:
    """Return the file (safetensors) of a layer's two matrices of rank 1, all zero."""
    first, end = _NUMBER_BYTES * layer.inputs, _NUMBER_BYTES * (layer.inputs + layer.outputs)
    parts = {"A": ([1, layer.inputs], [0, first]), "B": ([layer.outputs, 1], [first, end])}
    header = json.dumps(
        {
            f"base_model.model.{name}.lora_{side}.weight": {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": offsets,
            }
            for side, (shape, offsets) in parts.items()
        }
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(end)
