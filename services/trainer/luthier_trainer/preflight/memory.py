"""Peak memory of a run by part, for a kind of device; the assumptions are in docs/preflight.md.

Sources: 4-bit weights, their scales (a float32 for each 64 weights; quantized in turn to 8 bits
with a float32 for each 256) and 8-bit optimizers, Dettmers et al. 2022 (arXiv 2110.02861) and 2023
(arXiv 2305.14314, section 3); the output head in tiles, `run.output_head` and, of heads that learn,
on a GPU and for preferences, trl 1.16 (`ChunkedLogProbFunction`); what
loading and computing without a GPU hold, bitsandbytes 0.50.2 and safetensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from luthier.trainer.v1.preflight_pb2 import MemoryEstimate
from luthier.trainer.v1.tuning_pb2 import Optimizer, Precision

from luthier_trainer.architectures import PLAIN_HEAD
from luthier_trainer.preflight.activations import BYTES, Kept, kept
from luthier_trainer.preflight.inventory import Inventory
from luthier_trainer.preflight.setup import Setup

FOUR_BITS = frozenset({Precision.NF4, Precision.FP4})
_FLOAT32 = 4
_SCALED_WEIGHTS = 64
"""Weights that share a scale, in 4 bits."""
_SCALED_SCALES = 256
"""Scales that share a scale, doubly quantized; also the block of 8-bit optimizers."""
_CODE_BYTES = 16 * _FLOAT32 + 256 * _FLOAT32
"""The tables of a layer's 4-bit and 8-bit codes."""
_HEAD_TOKENS, _HEAD_WORDS = 4096, 32_768
"""The tiles of trl's output head."""
_HEAD_COPIES = 8.25
"""Float32 tiles at its backward pass without a GPU: the tile, seven steps and a mask of bytes."""
_FROZEN_TILE = 2**24
"""Logits of a tile of our own head, see `run.output_head`."""
_FULL_LOGITS_COPIES = 3
"""Float32 logits of encoder-decoders: what the loss keeps, and two gradients."""
_KIND = {"F32": Precision.FP32, "BF16": Precision.BF16, "F16": Precision.FP16}


@dataclass(frozen=True)
class Machine:
    """What a kind of device adds to the bytes that are counted."""

    cpu: bool
    has_bfloat16: bool
    fixed_bytes: int
    """Held by the device's libraries, whatever the job."""
    unused_share: float
    """Of the activations: what a caching allocator rounds up and cannot hand out again."""
    heap_share: float
    """Of what linear layers make: what stays on glibc's heap when freed, in holes that fit no other
    piece, since aligned pieces are asked for with some bytes more than they leave."""

    step_copies: int
    """Copies of the tuned weights that a step of torch's AdamW makes: one where it goes over all
    weights at once (torch's notes on `foreach`)."""


CPU = Machine(
    cpu=True,
    has_bfloat16=False,
    fixed_bytes=49_000_000,
    unused_share=0.0,
    heap_share=0.94,
    step_copies=0,
)
"""Two constants, fitted on the fitting half of benchmarks/results/preflight.json."""
CUDA = Machine(
    cpu=False,
    has_bfloat16=True,
    fixed_bytes=500_000_000,
    unused_share=0.1,
    heap_share=0.0,
    step_copies=1,
)
"""A CUDA context with cuBLAS' workspaces, and the caching allocator's rounding; not fitted."""
OLD_CUDA = replace(CUDA, has_bfloat16=False)
"""A GPU that does not compute in bfloat16."""


def estimate(
    inventory: Inventory, setup: Setup, machine: Machine, *, whole_logits: bool = False
) -> MemoryEstimate:
    """Return the peak memory of a run by part.

    `whole_logits` counts an output head that holds the logits of all tokens, as other trainers' do.
    """
    compute = setup.computing(has_bfloat16=machine.has_bfloat16)
    trainable = setup.trainable_parameters(inventory)
    weights, scales = weight_bytes(inventory, setup, compute)
    if setup.preference:  # the reference: another model or, beside LoRA, another adapter
        weights += inventory.parameters * BYTES[setup.base] if setup.full else trainable * _FLOAT32
    gradients = trainable * (BYTES[setup.base] if setup.full else _FLOAT32)
    held = kept(inventory, setup, compute, cpu=machine.cpu)
    head = _head_bytes(inventory, setup, machine, compute, whole_logits=whole_logits)
    activations = _activation_bytes(inventory, setup, compute, held, head)
    slack = round(activations * machine.unused_share + held.made * machine.heap_share)
    mapped = _file_bytes(inventory, setup, compute) if machine.cpu else 0
    parts = MemoryEstimate(
        weight_bytes=weights,
        quantization_bytes=scales,
        adapter_bytes=0 if setup.full else trainable * _FLOAT32,
        gradient_bytes=gradients,
        optimizer_bytes=_optimizer_bytes(setup.optimizer, trainable, gradients, machine),
        activation_bytes=activations,
        overhead_bytes=machine.fixed_bytes + mapped + slack,
    )
    both = gradients + activations if setup.accumulates else max(gradients, activations)
    parts.total_bytes = (
        parts.weight_bytes
        + parts.quantization_bytes
        + parts.adapter_bytes
        + parts.optimizer_bytes
        + parts.overhead_bytes
        + both
    )
    return parts


def weight_bytes(inventory: Inventory, setup: Setup, compute: Precision) -> tuple[int, int]:
    """Return the bytes of the base model's weights, and of the scales of quantized ones."""
    if not setup.quantized:
        size = BYTES[setup.base]
        # Autocast keeps each layer's weights as it has cast them, for the backward pass.
        cast = sum(layer.weights for layer in inventory.linears) * BYTES[compute]
        return inventory.parameters * size + (cast if compute != setup.base else 0), 0
    quantized = inventory.quantized_weights
    rest = (inventory.parameters - quantized) * BYTES[compute]
    layers = [layer for layer in inventory.linears if layer.quantized]
    if setup.base == Precision.INT8:
        return quantized + rest, sum(layer.outputs for layer in layers) * _FLOAT32
    scales = math.ceil(quantized / _SCALED_WEIGHTS)
    if setup.double_quantization:
        scale_bytes = scales + math.ceil(scales / _SCALED_SCALES) * _FLOAT32
    else:
        scale_bytes = scales * _FLOAT32
    return quantized // 2 + rest, scale_bytes + len(layers) * _CODE_BYTES


def _optimizer_bytes(optimizer: Optimizer, trainable: int, gradients: int, machine: Machine) -> int:
    """Two moments of each weight, as AdamW has them; paged ones are counted where they begin."""
    if optimizer in (Optimizer.ADAMW_8BIT, Optimizer.PAGED_ADAMW_8BIT):
        return 2 * (trainable + math.ceil(trainable / _SCALED_SCALES) * _FLOAT32)
    if optimizer == Optimizer.PAGED_ADAMW:
        return 2 * trainable * _FLOAT32
    return (2 + machine.step_copies) * gradients  # torch's has the weights' own type


def _activation_bytes(
    inventory: Inventory, setup: Setup, compute: Precision, held: Kept, head: int
) -> int:
    """Bytes at the backward pass' peak: its begin, or the recomputing of a block."""
    widest = inventory.widest
    # The gradients of a block's largest layer on its way back, and its weights at full width.
    going_back = 3 * max(widest.outputs, widest.inputs) * setup.tokens * BYTES[compute]
    if setup.quantized:
        going_back += widest.weights * BYTES[compute]
    if setup.checkpointing:
        return held.rest + held.inputs + max(head, held.block + going_back)
    return held.rest + held.blocks + max(head, going_back)


def _head_bytes(
    inventory: Inventory,
    setup: Setup,
    machine: Machine,
    compute: Precision,
    *,
    whole_logits: bool,
) -> int:
    """Bytes of the output head and the loss."""
    words = inventory.vocabulary
    if inventory.encoder_decoder or whole_logits:
        return (
            setup.answered_tokens
            * words
            * (
                _FULL_LOGITS_COPIES * _FLOAT32
                + (BYTES[compute] if compute != Precision.FP32 else 0)
            )
        )
    if machine.cpu and inventory.family in PLAIN_HEAD and not (setup.full or setup.preference):
        size = BYTES[compute]
        tile_bytes = _FLOAT32 if size == _FLOAT32 else _FLOAT32 + size
        return (
            min(setup.tokens * words, _FROZEN_TILE) * tile_bytes
            + 2 * setup.tokens * inventory.hidden * size  # what it reads, and its gradient
        )
    tokens, tile = min(setup.tokens, _HEAD_TOKENS), min(words, _HEAD_WORDS)
    gradient = setup.tokens * inventory.hidden * _FLOAT32
    if setup.full:
        gradient += words * inventory.hidden * _FLOAT32
    if not machine.cpu:
        return tokens * _HEAD_WORDS * BYTES[compute] + gradient
    return round(tokens * tile * _FLOAT32 * _HEAD_COPIES) + gradient


def _file_bytes(inventory: Inventory, setup: Setup, compute: Precision) -> int:
    """Bytes of the files that stay mapped into the memory of a run without a GPU.

    Weights that are held as the file has them are not copied, and keep the whole file mapped.
    """
    kind = _KIND.get(inventory.file_kind)
    held = compute if setup.quantized else setup.base
    if kind != held:
        return 0
    # What of the file is used as it is has been counted as weights.
    used = inventory.parameters - (inventory.quantized_weights if setup.quantized else 0)
    return max(0, inventory.file_bytes - used * BYTES[held])
