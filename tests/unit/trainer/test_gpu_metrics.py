"""GPU figures from a played NVML, which has no function that the real one lacks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from luthier_trainer.gpu_metrics import CPU, GpuMetrics, Gpus
from prometheus_client import CollectorRegistry, generate_latest

GIB = 1 << 30
NAME = "NVIDIA A100-SXM4-80GB"


class PlayedNvml:
    """The module `pynvml` on a machine with two GPUs, of which parts can be broken."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    NVML_VOLATILE_ECC = pynvml.NVML_VOLATILE_ECC

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self.broken: set[str] = set()
        self.asked: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml"):
            self.asked.add(name)
            if name in self.broken:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        return None

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= self.count:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        return int(uuid.removeprefix("GPU-"))

    def nvmlDeviceGetName(self, device: int) -> str:
        return (NAME, "NVIDIA L4")[device]

    def nvmlDeviceGetUUID(self, device: int) -> str:
        return f"GPU-{device}"

    def nvmlDeviceGetUtilizationRates(self, device: int) -> Any:
        return SimpleNamespace(gpu=75, memory=40)

    def nvmlDeviceGetMemoryInfo(self, device: int) -> Any:
        return SimpleNamespace(total=(80, 24)[device] * GIB, used=2 * GIB, free=0)

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        return 312_500

    def nvmlDeviceGetTemperature(self, device: int, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 64

    def nvmlDeviceGetTotalEccErrors(self, device: int, kind: int, counter: int) -> int:
        assert kind == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        assert counter == pynvml.NVML_VOLATILE_ECC
        return 3


def scraped(nvml: Any, jobs: Sequence[str] = ()) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(GpuMetrics(Gpus(nvml), lambda: jobs))
    return registry


def test_every_function_used_is_one_of_the_real_library(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = PlayedNvml()
    gpus = Gpus(nvml)
    list(GpuMetrics(gpus, tuple).collect())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    gpus.device_class()
    gpus.device_memory_bytes()
    assert nvml.asked == {name for name in vars(PlayedNvml) if name.startswith("nvml")}
    assert [name for name in nvml.asked if not hasattr(pynvml, name)] == []


def test_the_figures_of_each_device_in_base_units() -> None:
    registry = scraped(PlayedNvml())
    labels = {"device": "0", "uuid": "GPU-0", "device_class": NAME}
    for name, value in {
        "utilization_ratio": 0.75,
        "memory_used_bytes": 2 * GIB,
        "memory_total_bytes": 80 * GIB,
        "power_watts": 312.5,
        "temperature_celsius": 64,
        "ecc_uncorrected_errors_total": 3,
    }.items():
        assert registry.get_sample_value(f"luthier_gpu_{name}", labels) == value, name
    other = {"device": "1", "uuid": "GPU-1", "device_class": "NVIDIA L4"}
    assert registry.get_sample_value("luthier_gpu_memory_total_bytes", other) == 24 * GIB


def test_what_a_device_cannot_say_is_left_out_alone() -> None:
    nvml = PlayedNvml(count=1)
    nvml.broken = {"nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetUtilizationRates"}
    text = generate_latest(scraped(nvml)).decode()
    assert "luthier_gpu_power_watts{" in text
    assert "ecc_uncorrected_errors_total{" not in text
    assert "utilization_ratio{" not in text


@pytest.mark.parametrize(("visible", "device"), [("0", "0"), ("1", "1"), ("GPU-1", "1")])
def test_a_job_is_told_with_the_device_its_run_holds(
    visible: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    registry = scraped(PlayedNvml(), ["projects/acme/trainingJobs/ftjob-1"])
    labels = {"device": device, "project": "acme", "job": "ftjob-1"}
    assert registry.get_sample_value("luthier_gpu_job_info", labels) == 1
    assert generate_latest(registry).decode().count("luthier_gpu_job_info{") == 1


def test_a_device_without_a_job_tells_none() -> None:
    assert "luthier_gpu_job_info{" not in generate_latest(scraped(PlayedNvml())).decode()


@pytest.mark.parametrize("visible", [None, "0", "1,0", "GPU-1"])
def test_class_and_memory_are_those_of_the_device_that_runs_see(
    visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = Gpus(PlayedNvml())
    second = visible in ("1,0", "GPU-1")
    assert gpus.device_class() == ("NVIDIA L4" if second else NAME)
    assert gpus.device_memory_bytes() == (24 if second else 80) * GIB


@pytest.mark.parametrize("visible", ["", "-1", "9"])
def test_devices_hidden_from_runs_are_no_devices(
    visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = Gpus(PlayedNvml())
    assert (gpus.device_class(), gpus.device_memory_bytes()) == (CPU, None)


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetCount"])
def test_without_a_driver_or_a_gpu_there_is_one_line_and_no_figure(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    nvml = PlayedNvml(count=0)
    nvml.broken = {broken}
    with caplog.at_level(logging.INFO):
        registry = scraped(nvml)
        for _ in range(3):
            assert generate_latest(registry) == b""
    (line,) = caplog.messages
    assert line.startswith("no GPU figures: ")
    gpus = Gpus(nvml)
    assert (gpus.device_class(), gpus.device_memory_bytes()) == (CPU, None)


def test_a_driver_that_goes_away_takes_its_figures_with_it() -> None:
    nvml = PlayedNvml()
    registry = scraped(nvml)
    assert generate_latest(registry)
    nvml.broken = {name for name in dir(pynvml) if name.startswith("nvmlDevice")}
    assert generate_latest(registry) == b""
