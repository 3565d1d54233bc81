"""Whether an adapter fits its base model: every matrix has a layer, and every layer its two."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set

from luthier_common.errors import InvalidArgument

from luthier_inference.lora_config import LoraSettings, read_lora_config
from luthier_inference.tensors import Tensors

WEIGHTS = "adapter_model.safetensors"
"""The file with the matrices."""
HEADER_LIMIT = 16 << 20
"""The most bytes its header may have: that is a line for each of a hundred thousand matrices."""

_MATRIX = re.compile(r"base_model\.model\.([A-Za-z0-9_.]{1,300})\.lora_([AB])\.weight")


def check_adapter(
    config: bytes, tensors: Tensors, layers: Mapping[str, tuple[int, int]], *, seq2seq: bool
) -> LoraSettings:
    """Return the settings of an adapter, given its configuration and its header.

    `layers` are the base model's linear layers by name, each with its inputs and outputs; see
    `base_layers`. InvalidArgument says what does not fit.
    """
    settings = read_lora_config(config, seq2seq=seq2seq)
    targets = _targets(settings.target_modules, layers)
    for name in tensors.names:
        _check_name(name, targets, layers)
    for module in sorted(targets):
        inputs, outputs = layers[module]
        _check_matrices(tensors, module, settings.rank, inputs, outputs)
    return settings


def _targets(wanted: Iterable[str], layers: Mapping[str, tuple[int, int]]) -> Set[str]:
    """Return the layers that `wanted` means, as peft has it: by whole name, or the end of one."""
    by_end: dict[str, list[str]] = {}
    for name in layers:
        parts = name.split(".")
        for at in range(len(parts)):
            by_end.setdefault(".".join(parts[at:]), []).append(name)
    targets: set[str] = set()
    for end in wanted:
        if end not in by_end:
            raise _refused(
                f"target_modules names {end!r}, which is no linear layer of the base model that "
                "can be adapted (output heads and embeddings cannot); leave it out",
                "UNKNOWN_TARGET_MODULE",
            )
        targets.update(by_end[end])
    return targets


def _check_name(name: str, targets: Set[str], layers: Mapping[str, tuple[int, int]]) -> None:
    found = _MATRIX.fullmatch(name)
    if found is None:
        message = f"{WEIGHTS} holds more than LoRA matrices: {name[:100]!r}"
        raise _refused(message, "UNSUPPORTED_TENSOR")
    if found[1] not in layers:
        message = f"{name[:200]} is for a layer that the base model does not have"
        raise _refused(message, "UNKNOWN_LAYER")
    if found[1] not in targets:
        message = f"{name[:200]} is for a layer that target_modules does not name"
        raise _refused(message, "LAYER_NOT_TARGETED")


def _check_matrices(tensors: Tensors, module: str, rank: int, inputs: int, outputs: int) -> None:
    names = [f"base_model.model.{module}.lora_{side}.weight" for side in "AB"]
    missing = [name for name in names if name not in tensors.entries]
    if missing:
        reason = "MATRICES_MISSING" if missing == names else "UNPAIRED_MATRIX"
        message = f"{missing[0]} is missing, and target_modules names its layer"
        raise _refused(message, reason)
    first, second = (tensors.entries[name].shape for name in names)
    if len(first) != 2 or len(second) != 2:
        message = f"the matrices of {module} have {len(first)} and {len(second)} dimensions, not 2"
        raise _refused(message, "SHAPE_MISMATCH")
    if (first[0], second[1]) != (rank, rank):
        message = f"{module} has matrices of rank {first[0]} and {second[1]}, r is {rank}"
        raise _refused(message, "RANK_MISMATCH")
    if (first[1], second[0]) != (inputs, outputs):
        raise _refused(
            f"{module} has {inputs} inputs and {outputs} outputs in the base model, "
            f"{first[1]} and {second[0]} in the adapter",
            "SHAPE_MISMATCH",
        )


def _refused(message: str, reason: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, field="adapter.files")
