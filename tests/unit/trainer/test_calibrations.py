import asyncio
from collections.abc import AsyncIterator

import pytest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.calibration_pb2 import Calibration
from luthier.trainer.v1.training_job_pb2 import Measurement, TrainingJob
from luthier.trainer.v1.tuning_pb2 import Precision, ResolvedHyperparameters, TuningMode
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_trainer.calibrations import PATTERN, Calibrations

GPU = "NVIDIA A100-SXM4-80GB"
BASE = BaseModel(architecture="LlamaForCausalLM", parameter_count=7_000_000_000)
JOB = TrainingJob(
    resolved_hyperparameters=ResolvedHyperparameters(
        tuning_mode=TuningMode.LORA, base_precision=Precision.NF4, gradient_checkpointing=True
    )
)


@pytest.fixture
async def records() -> AsyncIterator[Collection[Calibration]]:
    async with Collection(MemoryRecords(), Calibration, PATTERN) as collection:
        yield collection


@pytest.fixture
def calibrations(records: Collection[Calibration]) -> Calibrations:
    return Calibrations(records)


def measured(speed: float, device: str = GPU) -> Measurement:
    return Measurement(
        device_class=device, tokens_per_second=speed, peak_memory_bytes=2**33, step_count=9
    )


async def found(calibrations: Calibrations) -> Calibration:
    one = await calibrations.find(GPU, BASE.architecture, TuningMode.LORA, Precision.NF4)
    assert one is not None
    return one


async def test_a_run_on_preferences_says_so(calibrations: Calibrations) -> None:
    supervised, preference = TrainingJob(), TrainingJob()
    supervised.CopyFrom(JOB)
    preference.CopyFrom(JOB)
    preference.preference.SetInParent()
    for job in (supervised, preference):
        await calibrations.record(job, BASE, measured(100))
    assert [point.preference for point in (await found(calibrations)).points] == [False, True]


async def test_what_a_run_measured_is_found_by_its_kind(calibrations: Calibrations) -> None:
    await calibrations.record(JOB, BASE, measured(1234.5))
    one = await found(calibrations)
    assert one.name.startswith("projects/library/calibrations/")
    assert (one.device_class, one.architecture) == (GPU, "LlamaForCausalLM")
    (point,) = one.points
    assert (point.parameter_count, point.tokens_per_second) == (7_000_000_000, 1234.5)
    assert (point.gradient_checkpointing, point.peak_memory_bytes) == (True, 2**33)


@pytest.mark.parametrize(
    "kind",
    [
        ("cpu", "LlamaForCausalLM", TuningMode.LORA, Precision.NF4),
        (GPU, "QwenForCausalLM", TuningMode.LORA, Precision.NF4),
        (GPU, "LlamaForCausalLM", TuningMode.FULL, Precision.NF4),
        (GPU, "LlamaForCausalLM", TuningMode.LORA, Precision.BF16),
    ],
)
async def test_runs_of_another_kind_say_nothing(
    calibrations: Calibrations, kind: tuple[str, str, TuningMode, Precision]
) -> None:
    await calibrations.record(JOB, BASE, measured(1234.5))
    assert await calibrations.find(*kind) is None


async def test_the_latest_twenty_are_kept(calibrations: Calibrations) -> None:
    for speed in range(1, 26):
        await calibrations.record(JOB, BASE, measured(speed))
    points = (await found(calibrations)).points
    assert [point.tokens_per_second for point in points] == list(range(6, 26))


async def test_runs_that_end_together_are_all_kept(calibrations: Calibrations) -> None:
    await asyncio.gather(*(calibrations.record(JOB, BASE, measured(n)) for n in range(1, 9)))
    points = (await found(calibrations)).points
    assert sorted(point.tokens_per_second for point in points) == list(range(1, 9))


@pytest.mark.parametrize(
    "measurement",
    [Measurement(), measured(0), measured(float("nan")), measured(float("inf")), measured(5, "")],
)
async def test_what_is_no_measurement_is_not_kept(
    calibrations: Calibrations, records: Collection[Calibration], measurement: Measurement
) -> None:
    await calibrations.record(JOB, BASE, measurement)
    assert records.values() == []
