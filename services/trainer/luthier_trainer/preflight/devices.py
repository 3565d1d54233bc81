"""Device classes, what fits them, and what a job takes of their time and money.

Memory is as sold (decimal gigabytes); a share of it is the driver's and is left alone. Time comes
from what runs have measured, never from a data sheet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from luthier.trainer.v1.calibration_pb2 import Calibration, CalibrationPoint
from luthier.trainer.v1.preflight_pb2 import DeviceFit, MemoryEstimate
from luthier.trainer.v1.tuning_pb2 import Precision, TuningMode

from luthier_trainer.preflight.inventory import Inventory
from luthier_trainer.preflight.memory import CPU, CUDA, OLD_CUDA, Machine
from luthier_trainer.preflight.setup import Setup

USABLE_SHARE = 0.95
"""Of a device's memory as sold; the rest is the driver's, ECC's and the display's."""
_GB = 10**9
_COMPARABLE_FACTOR = 4
"""How much larger or smaller a measured model may be for its speed to say anything."""


@dataclass(frozen=True)
class DeviceClass:
    """A kind of device."""

    name: str
    memory_bytes: int
    machine: Machine
    models: tuple[str, ...]
    """What its driver calls it: the device classes of measurements."""

    @property
    def usable_bytes(self) -> int:
        """What a run may hold of it."""
        return int(self.memory_bytes * USABLE_SHARE)


def _gpu(name: str, gigabytes: int, *models: str, machine: Machine = CUDA) -> DeviceClass:
    return DeviceClass(name, gigabytes * _GB, machine, models)


GPUS = (
    _gpu("t4", 16, "Tesla T4", machine=OLD_CUDA),
    _gpu("v100-16gb", 16, "Tesla V100-SXM2-16GB", "Tesla V100-PCIE-16GB", machine=OLD_CUDA),
    _gpu("v100-32gb", 32, "Tesla V100-SXM2-32GB", "Tesla V100-PCIE-32GB", machine=OLD_CUDA),
    _gpu("rtx4090", 24, "NVIDIA GeForce RTX 4090"),
    _gpu("l4", 24, "NVIDIA L4"),
    _gpu("a10", 24, "NVIDIA A10", "NVIDIA A10G"),
    _gpu("l40s", 48, "NVIDIA L40S"),
    _gpu("a100-40gb", 40, "NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
    _gpu("a100-80gb", 80, "NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
    _gpu("h100", 80, "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"),
    _gpu("h200", 141, "NVIDIA H200"),
    _gpu("b200", 180, "NVIDIA B200"),
)
CPU_CLASS = "cpu"


class CalibrationSource(Protocol):
    """Tells what runs have measured."""

    async def find(
        self,
        device_class: str,
        architecture: str,
        tuning_mode: TuningMode,
        base_precision: Precision,
    ) -> Calibration | None:
        """Return the measurements of a kind of run; None when there were none."""


@dataclass(frozen=True)
class Prices:
    """What an hour costs."""

    hourly: Mapping[str, float]
    """By device class, or by what its driver calls it."""
    currency: str
    """ISO 4217."""


@dataclass(frozen=True)
class Devices:
    """Where jobs may run, and what is known of speed and price there."""

    classes: tuple[DeviceClass, ...]
    shown: DeviceClass
    """Whose memory is shown by part: the device that runs get here."""
    own: DeviceClass | None
    """The same, if its memory is known to be theirs alone: what does not fit it is refused."""
    calibrations: CalibrationSource
    prices: Prices

    @classmethod
    def beside(
        cls,
        device_class: str,
        memory_bytes: int | None,
        calibrations: CalibrationSource,
        prices: Prices,
    ) -> Devices:
        """Return all classes and the device that runs get, as its driver calls it; or `cpu`.

        `memory_bytes` is of that device, None where it has none of its own.
        """
        if device_class == CPU_CLASS or memory_bytes is None:
            shown = DeviceClass(CPU_CLASS, _machine_bytes(), CPU, (CPU_CLASS,))
            return cls((*GPUS, shown), shown, None, calibrations, prices)
        known = next((gpu for gpu in GPUS if device_class in gpu.models), None)
        machine = known.machine if known else CUDA
        own = DeviceClass(device_class, memory_bytes, machine, (device_class,))
        return cls((*GPUS, own), own, own, calibrations, prices)


def _machine_bytes() -> int:
    """Memory of the machine that this process, and on one machine each run, is on."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


async def fit(
    device: DeviceClass,
    memory: MemoryEstimate,
    inventory: Inventory,
    setup: Setup,
    tokens: float,
    devices: Devices,
) -> DeviceFit:
    """Return whether a device class holds a configuration, and what the job takes there.

    `tokens` are the real ones that the whole job reads, over all epochs.
    """
    fits = memory.total_bytes <= device.usable_bytes
    answer = DeviceFit(
        device_class=device.name,
        memory_bytes=device.memory_bytes,
        fits=fits,
        basis="" if fits else "it does not fit",
    )
    if not fits:
        return answer
    speed, answer.basis = await _speed(device, inventory, setup, devices.calibrations)
    if speed is None:
        return answer
    answer.seconds = tokens / speed
    answer.device_hours = answer.seconds / 3600
    names = (device.name, *device.models)
    hourly = devices.prices.hourly
    price = next((hourly[name] for name in names if name in hourly), None)
    if price is not None:
        answer.cost, answer.currency = answer.device_hours * price, devices.prices.currency
    return answer


async def _speed(
    device: DeviceClass, inventory: Inventory, setup: Setup, calibrations: CalibrationSource
) -> tuple[float | None, str]:
    """Return real tokens a second, scaled from the measured model nearest in size, and why."""
    mode = TuningMode.FULL if setup.full else TuningMode.LORA
    points: list[CalibrationPoint] = []
    for model in device.models:
        found = await calibrations.find(model, inventory.architecture, mode, setup.base)
        points += found.points if found is not None else []
    alike = [
        point
        for point in points
        if point.gradient_checkpointing == setup.checkpointing
        and point.preference == setup.preference
    ]
    near = [point for point in alike if _distance(point, inventory) <= _COMPARABLE_FACTOR]
    if not near:
        what = f"{inventory.architecture} in {Precision.Name(setup.base)}"
        size = " of about this size" if alike else ""
        recomputed = " with checkpointing" if setup.checkpointing else ""
        what += " on preferences" if setup.preference else ""
        return None, f"no run of {what}{recomputed}{size} has been measured on {device.name}"
    # The newest of the nearest: runs have become faster since.
    point = min(reversed(near), key=lambda point: _distance(point, inventory))
    speed = point.tokens_per_second * point.parameter_count / inventory.parameters
    return speed, (
        f"{point.tokens_per_second:,.0f} tokens/s were measured with {point.parameter_count:,} "
        f"weights; this model has {inventory.parameters:,}"
    )


def _distance(point: CalibrationPoint, inventory: Inventory) -> float:
    """How many times larger the larger of two models is."""
    small, large = sorted((max(1, point.parameter_count), max(1, inventory.parameters)))
    return large / small
