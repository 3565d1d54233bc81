"""The GPUs of this machine by NVML, NVIDIA's management library: figures, memory, class.

Without its driver, or without a GPU, there are none: nothing is reported and nothing fails.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pynvml
from luthier_common.names import id_of, project_of
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CPU = "cpu"
"""The device class of a machine without a GPU."""

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = ("device", "uuid", "device_class")
_JOB = ("device", "project", "job")

JobsAtWork = Callable[[], Iterable[str]]
"""Names of the jobs that have a run on this machine."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    text: str
    read: Callable[[Any, Any], float]
    """Library and handle of a device to its value."""
    is_counter: bool = False


_FIGURES = (
    _Figure(
        "luthier_gpu_utilization_ratio",
        "Share of the last moments in which the device was computing",
        lambda nvml, device: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
    ),
    _Figure(
        "luthier_gpu_memory_used_bytes",
        "Memory in use",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).used,
    ),
    _Figure(
        "luthier_gpu_memory_total_bytes",
        "Memory there is",
        lambda nvml, device: nvml.nvmlDeviceGetMemoryInfo(device).total,
    ),
    _Figure(
        "luthier_gpu_power_watts",
        "Power drawn",
        lambda nvml, device: nvml.nvmlDeviceGetPowerUsage(device) / 1000,
    ),
    _Figure(
        "luthier_gpu_temperature_celsius",
        "Temperature of the chip",
        lambda nvml, device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
    ),
    _Figure(
        "luthier_gpu_ecc_uncorrected_errors",
        "Memory errors that were found and could not be corrected, since the driver was loaded",
        lambda nvml, device: nvml.nvmlDeviceGetTotalEccErrors(
            device, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
        is_counter=True,
    ),
)


class Gpus:
    """The devices of this machine, asked afresh each time."""

    def __init__(self, nvml: Any = pynvml) -> None:
        self.nvml = nvml
        self._is_open = self._open()

    def device_class(self) -> str:
        """Return the class of the device that runs use, such as `NVIDIA A100-SXM4-80GB`."""
        device = self._first_visible()
        return CPU if device is None else self.ask("nvmlDeviceGetName", device) or CPU

    def device_memory_bytes(self) -> int | None:
        """Return the memory of the device that runs use; None without a GPU, or when unknown."""
        device = self._first_visible()
        memory = None if device is None else self.ask("nvmlDeviceGetMemoryInfo", device)
        return None if memory is None else int(memory.total)

    def devices(self) -> dict[int, Any]:
        """Return the handles of all devices by their numbers."""
        count = self.ask("nvmlDeviceGetCount") if self._is_open else None
        handles = {n: self.ask("nvmlDeviceGetHandleByIndex", n) for n in range(count or 0)}
        return {number: device for number, device in handles.items() if device is not None}

    def uuid(self, device: Any) -> str:
        """Return what tells a device from all others."""
        return self.ask("nvmlDeviceGetUUID", device) or ""

    def runs_on(self) -> str:
        """Return the uuid of the device that runs use; empty without a GPU."""
        device = self._first_visible()
        return "" if device is None else self.uuid(device)

    def ask(self, function: str, *arguments: Any) -> Any:
        """Return what a function of NVML says, None when it cannot."""
        try:
            return getattr(self.nvml, function)(*arguments)
        except self.nvml.NVMLError as error:
            logger.debug("%s: %s", function, error)
            return None

    def _first_visible(self) -> Any:
        """Return the first device that runs see (CUDA C++ Programming Guide, 5.3), or None."""
        first = os.environ.get(_VISIBLE, "0").partition(",")[0].strip()
        if not self._is_open:
            return None
        if first.isdecimal():
            return self.ask("nvmlDeviceGetHandleByIndex", int(first))
        if first.startswith(("GPU-", "MIG-")):
            return self.ask("nvmlDeviceGetHandleByUUID", first)
        return None

    def _open(self) -> bool:
        try:
            self.nvml.nvmlInit()
        except self.nvml.NVMLError as error:
            logger.info("no GPU figures: %s", error)
            return False
        if not self.ask("nvmlDeviceGetCount"):
            logger.info("no GPU figures: this machine has no GPU")
        return True


class GpuMetrics(Collector):
    """The devices' figures and jobs, for Prometheus.

    What NVML cannot say of a device, such as ECC where there is none, is left out.
    """

    def __init__(self, gpus: Gpus, jobs_at_work: JobsAtWork) -> None:
        self._gpus = gpus
        self._jobs_at_work = jobs_at_work

    def collect(self) -> Iterator[Metric]:
        """Read all devices (`Collector`)."""
        devices = self._gpus.devices()
        if not devices:
            return
        labels = {number: self._labels(number, device) for number, device in devices.items()}
        for figure in _FIGURES:
            kind = CounterMetricFamily if figure.is_counter else GaugeMetricFamily
            family = kind(figure.name, figure.text, labels=_DEVICE)
            for number, device in devices.items():
                try:
                    family.add_metric(labels[number], figure.read(self._gpus.nvml, device))
                except self._gpus.nvml.NVMLError as error:
                    logger.debug("%s is unknown: %s", figure.name, error)
            yield family
        yield self._job_info(labels.values())

    def describe(self) -> list[Metric]:
        """Name nothing, so that registering reads nothing (`Collector`)."""
        return []

    def _job_info(self, labels: Iterable[tuple[str, str, str]]) -> Metric:
        # By the device that every run uses, not by processes: to a container NVML tells the
        # process ids of the host.
        family = GaugeMetricFamily("luthier_gpu_job_info", "Which job is on a device", labels=_JOB)
        used = self._gpus.runs_on()
        for number in (number for number, uuid, _ in labels if uuid == used):
            for job in self._jobs_at_work():
                family.add_metric((number, project_of(job), id_of(job)), 1)
        return family

    def _labels(self, number: int, device: Any) -> tuple[str, str, str]:
        return (
            str(number),
            self._gpus.uuid(device),
            self._gpus.ask("nvmlDeviceGetName", device) or "",
        )
