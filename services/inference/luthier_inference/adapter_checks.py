"""Whether an adapter fits its base model: every matrix has a layer, and every layer its two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from luthier_common.errors import InvalidArgument

from luthier_inference.lora_config import MERGE, RANK_LIMIT, LoraSettings, read_lora_config
from luthier_inference.methods import METHODS, Misfit, Shapes
from luthier_inference.tensors import Tensors

WEIGHTS = "adapter_model.safetensors"
"""The file with the matrices."""
HEADER_LIMIT = 16 << 20
"""The most bytes its header may have: that is a line for each of a hundred thousand matrices."""

_NUMBERS_LIMIT = 1 << 31
"""The most numbers of its matrices as LoRA: the 4 GiB that its files may have, in 16 bits."""


def check_adapter(
    config: bytes, tensors: Tensors, layers: Mapping[str, tuple[int, int]], *, seq2seq: bool
) -> LoraSettings:
    """Return the settings of an adapter, given its configuration and its header.

    `layers` are the base model's linear layers by name, each with its inputs and outputs; see
    `base_layers`. InvalidArgument says what does not fit.
    """
    settings = read_lora_config(config, seq2seq=seq2seq)
    targets = _targets(settings.target_modules, layers)
    try:
        found = METHODS[settings.method].by_layer(tensors.shapes)
    except Misfit as error:
        raise _refused(f"{WEIGHTS} holds {error}", error.reason) from error
    for module in (*found, *settings.kept_ranks):
        _check_layer(module, targets, layers)
    ranks = [
        _rank_of(module, found.get(module, {}), settings, layers[module])
        for module in sorted(targets)
    ]
    # All layers of an adapter have the largest rank on the device, and files of some methods are
    # small for what they come to.
    numbers = max(ranks) * sum(sum(layers[module]) for module in targets)
    if numbers > _NUMBERS_LIMIT:
        message = (
            f"its matrices have {numbers} numbers as LoRA, at most {_NUMBERS_LIMIT} are served"
        )
        raise _refused(f"{message}; {_advice(settings)}", "ADAPTER_TOO_LARGE")
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


def _check_layer(module: str, targets: Set[str], layers: Mapping[str, tuple[int, int]]) -> None:
    if module not in layers:
        message = f"it names {module[:200]}, which the base model does not have"
        raise _refused(message, "UNKNOWN_LAYER")
    if module not in targets:
        message = f"it names {module[:200]}, which target_modules does not name"
        raise _refused(message, "LAYER_NOT_TARGETED")


def _rank_of(module: str, shapes: Shapes, settings: LoraSettings, layer: tuple[int, int]) -> int:
    """Return the rank that a layer's tensors have as LoRA."""
    if not shapes:
        message = f"target_modules names {module}, and no matrices are for it"
        raise _refused(message, "MATRICES_MISSING")
    try:
        sizes = METHODS[settings.method].sizes(shapes, settings.rank_of(module))
    except Misfit as error:
        raise _refused(f"{module} has {error}", error.reason) from error
    inputs, outputs = layer
    if (sizes.inputs, sizes.outputs) != (inputs, outputs):
        raise _refused(
            f"{module} has {inputs} inputs and {outputs} outputs in the base model, "
            f"{sizes.inputs} and {sizes.outputs} in the adapter",
            "SHAPE_MISMATCH",
        )
    if sizes.rank > RANK_LIMIT:
        message = f"{module} has rank {sizes.rank} as LoRA, at most {RANK_LIMIT} is served"
        raise _refused(f"{message}; {_advice(settings)}", "RANK_OUT_OF_LIMITS")
    return sizes.rank


def _advice(settings: LoraSettings) -> str:
    lower = METHODS[settings.method].advice
    return f"tune it again with {lower}, or {MERGE}"


def _refused(message: str, reason: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, field="adapter.files")
