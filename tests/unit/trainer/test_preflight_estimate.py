"""The whole answer: configurations, devices, time and cost, and who can serve the result."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from luthier.trainer.v1.calibration_pb2 import Calibration, CalibrationPoint
from luthier.trainer.v1.preflight_pb2 import ConfigurationEstimate, DeviceFit, Preflight
from luthier.trainer.v1.tuning_pb2 import (
    Optimizer,
    Precision,
    ResolvedHyperparameters,
    TuningMode,
)
from luthier_common.errors import FailedPrecondition
from luthier_trainer.preflight.devices import Devices, Prices
from luthier_trainer.preflight.estimate import check_fits, preflight
from luthier_trainer.preflight.inventory import Inventory
from luthier_trainer.preflight.rows import Survey
from luthier_trainer.preflight.servability import serving
from luthier_trainer.preflight.setup import Setup, setup_of
from luthier_trainer.preflight.steps import Passes

from benchmarks.preflight.paper import SHAPES, inventory_of

LLAMA = inventory_of(SHAPES["Llama 2 7B"])
LARGE = inventory_of(SHAPES["Llama 2 70B"])
T5 = replace(LLAMA, family="t5", encoder_decoder=True)
A100 = "NVIDIA A100-SXM4-80GB"
PASSES = Passes(
    lines=4,
    line_tokens=1024,
    answer_tokens=1024,
    padded_share=0.1,
    tokens=2_000,
    truncated_share=0.25,
)
ROWS = Survey(accepted=1_000, refused=1, sample=[{"text": "a"}] * 100)
QLORA = ResolvedHyperparameters(
    epoch_count=3,
    batch_size=4,
    lora_rank=16,
    tuning_mode=TuningMode.LORA,
    base_precision=Precision.NF4,
    double_quantization=True,
    target_modules=["all-linear"],
    optimizer=Optimizer.ADAMW,
)
FULL = ResolvedHyperparameters(
    epoch_count=1,
    batch_size=4,
    tuning_mode=TuningMode.FULL,
    base_precision=Precision.FP32,
    optimizer=Optimizer.ADAMW,
)


class Measured:
    """Calibrations of one kind of run."""

    def __init__(self, *points: CalibrationPoint, device_class: str = A100) -> None:
        self._points = points
        self._device_class = device_class

    async def find(self, device_class: str, *kind: object) -> Calibration | None:
        if (device_class, *kind) != (
            self._device_class,
            "LlamaForCausalLM",
            TuningMode.LORA,
            Precision.NF4,
        ):
            return None
        return Calibration(points=self._points)


def devices(
    *points: CalibrationPoint,
    own: str = "cpu",
    gigabytes: float | None = None,
    prices: Mapping[str, float] | None = None,
) -> Devices:
    held = None if gigabytes is None else int(gigabytes * 1e9)
    return Devices.beside(own, held, Measured(*points), Prices(prices or {}, "EUR"))


async def look(
    where: Devices,
    chosen: ResolvedHyperparameters = QLORA,
    inventory: Inventory = LLAMA,
) -> Preflight:
    setup = setup_for(chosen, inventory)
    return await preflight(chosen, setup, inventory, ROWS, PASSES, where)


def fit(way: ConfigurationEstimate, device_class: str) -> DeviceFit:
    return next(one for one in way.devices if one.device_class == device_class)


async def test_the_rows_of_a_sample_speak_for_all() -> None:
    data = (await look(devices())).data
    assert (data.accepted_row_count, data.refused_row_count) == (1_000, 1)
    assert data.sampled_row_count == 100
    assert data.tokens_per_epoch == 20_000
    assert (data.truncated_share, data.padded_share) == (0.25, 0.1)


async def test_weights_are_counted_and_three_other_ways_are_shown() -> None:
    in_bfloat16 = ResolvedHyperparameters(compute_precision=Precision.BF16)
    in_bfloat16.MergeFrom(QLORA)
    answer = await look(devices(), in_bfloat16)
    assert answer.total_parameters == 6_738_415_616
    assert answer.trainable_parameters == 39_976_960
    assert answer.chosen.description == "as configured"
    told = [way.description for way in answer.alternatives]
    assert told == [
        "2 lines a pass, activations computed again",
        "weights in BF16, not quantized",
        "rank 4",
    ]
    smaller, larger, _ = answer.alternatives
    chosen = answer.chosen.memory.total_bytes
    assert smaller.memory.total_bytes < chosen < larger.memory.total_bytes


async def test_of_full_tuning_qlora_is_another_way() -> None:
    answer = await look(devices(), FULL)
    assert [way.tuning_mode for way in answer.alternatives] == [
        TuningMode.FULL,
        TuningMode.LORA,
        TuningMode.FULL,
    ]
    assert answer.trainable_parameters == answer.total_parameters
    assert answer.serving.adapter_bytes == 0
    assert {need.adapter_count for need in answer.serving.devices} == {0}


async def test_a_7b_qlora_of_short_lines_fits_the_16_gb_of_the_founding_text() -> None:
    short = replace(PASSES, lines=1, line_tokens=512, answer_tokens=512)
    setup = setup_of(QLORA, LLAMA, short, preference=False)
    answer = await preflight(QLORA, setup, LLAMA, ROWS, short, devices())
    fits = {one.device_class: one.fits for one in answer.chosen.devices}
    assert fits["t4"]
    assert fits["h200"]
    assert not fit((await look(devices(), FULL)).chosen, "a100-80gb").fits


async def test_without_measurements_time_is_not_guessed() -> None:
    found = fit((await look(devices())).chosen, "a100-80gb")
    assert found.fits
    assert not found.HasField("seconds")
    assert not found.HasField("cost")
    assert found.basis == "no run of LlamaForCausalLM in NF4 has been measured on a100-80gb"


async def test_time_and_cost_follow_from_the_measured_model_nearest_in_size() -> None:
    points = [
        CalibrationPoint(parameter_count=LLAMA.parameters * 2, tokens_per_second=50),
        CalibrationPoint(parameter_count=LLAMA.parameters // 3, tokens_per_second=1),
        CalibrationPoint(
            parameter_count=LLAMA.parameters, tokens_per_second=7, gradient_checkpointing=True
        ),
    ]
    answer = await look(devices(*points, prices={A100: 3.6}))
    found = fit(answer.chosen, "a100-80gb")
    assert found.seconds == pytest.approx(3 * 20_000 / 100)  # half the weights, twice the speed
    assert found.device_hours == pytest.approx(600 / 3600)
    assert found.cost == pytest.approx(0.6)
    assert found.currency == "EUR"
    assert "50 tokens/s were measured" in found.basis
    assert fit(answer.alternatives[0], "a100-80gb").seconds == pytest.approx(60_000 / 7)
    assert not fit(answer.chosen, "l40s").HasField("seconds")


async def test_models_of_another_size_say_nothing() -> None:
    far = CalibrationPoint(parameter_count=LLAMA.parameters // 5, tokens_per_second=1000)
    found = fit((await look(devices(far))).chosen, "a100-80gb")
    assert not found.HasField("seconds")
    assert "of about this size" in found.basis


async def test_without_a_price_there_is_time_but_no_cost() -> None:
    point = CalibrationPoint(parameter_count=LLAMA.parameters, tokens_per_second=10)
    found = fit((await look(devices(point, prices={"t4": 1.0}))).chosen, "a100-80gb")
    assert found.HasField("seconds")
    assert not found.HasField("cost")


async def test_the_own_device_is_listed_as_its_driver_calls_it() -> None:
    answer = await look(devices(own=A100, gigabytes=85.9))
    assert fit(answer.chosen, A100).memory_bytes == 85_900_000_000
    assert answer.chosen.memory.overhead_bytes >= 500_000_000  # a CUDA context


def setup_for(chosen: ResolvedHyperparameters, inventory: Inventory) -> Setup:
    return setup_of(chosen, inventory, PASSES, preference=False)


def test_a_job_that_does_not_fit_at_its_smallest_is_refused_with_what_does() -> None:
    own = devices(own="Tesla T4", gigabytes=16.1).own
    assert own is not None
    with pytest.raises(FailedPrecondition, match=r"Tesla T4 has 15.3 GB.*QLoRA.*fits") as caught:
        check_fits(setup_for(FULL, LLAMA), LLAMA, own)
    assert caught.value.reason == "DOES_NOT_FIT"
    with pytest.raises(FailedPrecondition, match="a larger device"):
        check_fits(setup_for(FULL, LARGE), LARGE, own)


async def test_a_job_that_fits_in_smaller_passes_is_not_refused() -> None:
    where = devices(own="NVIDIA L4", gigabytes=24)
    assert where.own is not None
    assert not fit((await look(where)).chosen, "NVIDIA L4").fits
    check_fits(setup_for(QLORA, LLAMA), LLAMA, where.own)


@pytest.mark.parametrize(
    ("inventory", "changes", "vllm", "tgi", "ours"),
    [
        (LLAMA, {}, (True, ""), True, True),
        (LLAMA, {"rank": 24}, (True, "--max-lora-rank 32"), True, True),
        (LLAMA, {"full": True, "rank": 0}, (True, "a model of its own"), True, True),
        (replace(LLAMA, family="falcon"), {}, (False, "falcon"), True, True),
        (T5, {}, (False, "encoder-decoder"), False, True),
        (T5, {"full": True, "rank": 0}, (False, "encoder-decoder"), True, True),
    ],
)
def test_engines_say_whether_they_can_serve_the_result(
    inventory: Inventory,
    changes: Mapping[str, int],
    vllm: tuple[bool, str],
    tgi: bool,
    ours: bool,
) -> None:
    setup = replace(setup_for(QLORA, inventory), **changes)  # type: ignore[arg-type]
    engines = {one.engine: one for one in serving(inventory, setup, []).engines}
    assert engines["vllm"].supported == vllm[0]
    assert vllm[1] in engines["vllm"].reason
    assert engines["tgi"].supported == tgi
    assert engines["transformers"].supported == ours
    assert all(one.reason for one in engines.values() if not one.supported)


def test_base_and_a_hundred_adapters_need_more_devices_where_these_are_small() -> None:
    where = devices().classes
    found = serving(LARGE, setup_for(QLORA, LARGE), where)
    counts = {need.device_class: need.device_count for need in found.devices}
    assert found.base_bytes == 2 * LARGE.parameters
    assert counts["h200"] < counts["a100-80gb"] < counts["t4"]
    assert {need.adapter_count for need in found.devices} == {100}


async def test_the_newest_of_equal_measurements_speaks() -> None:
    old, new = (
        CalibrationPoint(parameter_count=LLAMA.parameters, tokens_per_second=speed)
        for speed in (100.0, 300.0)
    )
    answer = await look(devices(old, new))
    assert "300 tokens/s" in fit(answer.chosen, "a100-80gb").basis


async def test_a_run_on_preferences_tells_nothing_of_answers() -> None:
    point = CalibrationPoint(
        parameter_count=LLAMA.parameters, tokens_per_second=100.0, preference=True
    )
    found = fit((await look(devices(point))).chosen, "a100-80gb")
    assert not found.HasField("seconds")


async def test_the_least_that_a_job_needs_is_one_row_at_a_time() -> None:
    answer = await look(devices())
    assert 0 < answer.least_memory_bytes < answer.chosen.memory.total_bytes
