"""The preflight of a job: its rows, its memory, where it fits, what it costs, who can serve it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from luthier.trainer.v1.preflight_pb2 import (
    ConfigurationEstimate,
    DataEstimate,
    Preflight,
)
from luthier.trainer.v1.tuning_pb2 import (
    Optimizer,
    Precision,
    ResolvedHyperparameters,
    TuningMode,
)
from luthier_common.errors import FailedPrecondition

from luthier_trainer.hyperparameters import ALL_LINEAR
from luthier_trainer.preflight.devices import DeviceClass, Devices, fit
from luthier_trainer.preflight.inventory import Inventory
from luthier_trainer.preflight.memory import estimate
from luthier_trainer.preflight.rows import Survey
from luthier_trainer.preflight.servability import serving
from luthier_trainer.preflight.setup import Setup, target_names
from luthier_trainer.preflight.steps import Passes

ALTERNATIVES = 3
_SMALLER_OPTIMIZER = {
    Optimizer.ADAMW: Optimizer.ADAMW_8BIT,
    Optimizer.PAGED_ADAMW: Optimizer.PAGED_ADAMW_8BIT,
}


async def preflight(
    chosen: ResolvedHyperparameters,
    setup: Setup,
    inventory: Inventory,
    survey: Survey,
    passes: Passes,
    devices: Devices,
) -> Preflight:
    """Return what is known of a job before it starts."""
    data = data_estimate(survey, passes)
    tokens = data.tokens_per_epoch * chosen.epoch_count / (1 - chosen.retain_share)
    ways = [("as configured", setup), *list(alternatives(setup, inventory))[:ALTERNATIVES]]
    estimates = [await _configuration(*way, inventory, tokens, devices) for way in ways]
    return Preflight(
        data=data,
        trainable_parameters=setup.trainable_parameters(inventory),
        total_parameters=inventory.parameters,
        chosen=estimates[0],
        alternatives=estimates[1:],
        serving=serving(inventory, setup, devices.classes),
        least_memory_bytes=_least(setup, inventory, devices.shown),
    )


def data_estimate(survey: Survey, passes: Passes) -> DataEstimate:
    """Return what the rows come to; the sample speaks for all where it is not all."""
    sampled = len(survey.sample)
    return DataEstimate(
        accepted_row_count=survey.accepted,
        refused_row_count=survey.refused,
        refused_rows=survey.refused_rows,
        tokens_per_epoch=round(passes.tokens * survey.accepted / max(1, sampled)),
        sampled_row_count=sampled,
        truncated_share=passes.truncated_share,
        padded_share=passes.padded_share,
    )


def alternatives(setup: Setup, inventory: Inventory) -> Iterator[tuple[str, Setup]]:
    """Yield other ways to do a job and what sets them apart, those that say most first."""
    smaller = replace(setup.in_parts(2), checkpointing=True)
    if smaller.tokens < setup.tokens or not setup.checkpointing:
        name = f"{smaller.lines} lines a pass" if smaller.lines > 1 else "one line a pass"
        yield f"{name}, activations computed again", smaller
    if setup.full:
        yield "QLoRA: LoRA of rank 16 on all linear layers in NF4", _lora(setup, inventory)
    elif setup.quantized:
        yield (
            "weights in BF16, not quantized",
            replace(setup, base=Precision.BF16, double_quantization=False),
        )
    else:
        yield "weights in NF4", replace(setup, base=Precision.NF4, double_quantization=True)
    if setup.optimizer in _SMALLER_OPTIMIZER and setup.full:
        optimizer = _SMALLER_OPTIMIZER[setup.optimizer]
        yield "AdamW with 8-bit state", replace(setup, optimizer=optimizer)
    if not setup.full and setup.rank > 1:
        rank = max(1, setup.rank // 4)
        yield f"rank {rank}", replace(setup, rank=rank)
    if not setup.full and setup.quantized and setup.base != Precision.INT8:
        yield "weights in INT8", replace(setup, base=Precision.INT8, double_quantization=False)
    if not setup.full:
        yield (
            "all weights tuned, in FP32",
            replace(setup, full=True, base=Precision.FP32, targets=frozenset(), rank=0),
        )


def check_fits(setup: Setup, inventory: Inventory, own: DeviceClass) -> None:
    """FailedPrecondition if the own device does not hold even the smallest passes of a job.

    A run that is short of memory halves its passes by itself; nothing else is changed unasked.
    """
    needed = _least(setup, inventory, own)
    if needed <= own.usable_bytes:
        return
    other = next(
        (
            f"as another way, {name} fits"
            for name, way in alternatives(setup, inventory)
            if _least(way, inventory, own) <= own.usable_bytes
        ),
        "a larger device, a smaller model or a smaller max_row_tokens is needed",
    )
    raise FailedPrecondition(
        f"the job needs {needed / 1e9:.1f} GB even with one line a pass and "
        f"gradient_checkpointing, and {own.name} has {own.usable_bytes / 1e9:.1f} GB for it; "
        f"{other}",
        reason="DOES_NOT_FIT",
        metadata={"device_class": own.name, "needed_bytes": str(needed)},
    )


def _least(setup: Setup, inventory: Inventory, own: DeviceClass) -> int:
    """Return the peak memory of the smallest passes of a job."""
    smallest = replace(setup.in_parts(), checkpointing=True)
    return estimate(inventory, smallest, own.machine).total_bytes


async def _configuration(
    description: str, setup: Setup, inventory: Inventory, tokens: float, devices: Devices
) -> ConfigurationEstimate:
    answer = ConfigurationEstimate(
        description=description,
        tuning_mode=TuningMode.FULL if setup.full else TuningMode.LORA,
        base_precision=setup.base,
        micro_batch_size=setup.sequences,
        line_tokens=setup.line_tokens,
        gradient_checkpointing=setup.checkpointing,
        optimizer=setup.optimizer,
        memory=estimate(inventory, setup, devices.shown.machine),
    )
    for device in devices.classes:
        memory = estimate(inventory, setup, device.machine)
        answer.devices.append(await fit(device, memory, inventory, setup, tokens, devices))
    return answer


def _lora(setup: Setup, inventory: Inventory) -> Setup:
    return replace(
        setup,
        full=False,
        base=Precision.NF4,
        double_quantization=True,
        targets=target_names(inventory, [ALL_LINEAR]),
        rank=16,
    )
