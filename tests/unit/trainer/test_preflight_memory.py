"""Estimates of memory: the founding paper's figures, known sizes, and what makes them grow."""

from dataclasses import replace

import pytest
from luthier.trainer.v1.tuning_pb2 import Optimizer, Precision
from luthier_trainer.preflight.memory import CPU, CUDA, OLD_CUDA, estimate, weight_bytes
from luthier_trainer.preflight.setup import Setup, target_names

from benchmarks.preflight import paper

LLAMA = paper.inventory_of(paper.SHAPES["Llama 2 7B"])
QLORA = Setup(
    full=False,
    base=Precision.NF4,
    double_quantization=True,
    compute=Precision.PRECISION_UNSPECIFIED,
    targets=target_names(LLAMA, ["all-linear"]),
    rank=16,
    optimizer=Optimizer.ADAMW,
    lines=4,
    line_tokens=1024,
    answer_tokens=1024,
    checkpointing=False,
    preference=False,
    accumulates=False,
)
FULL = replace(
    QLORA, full=True, base=Precision.FP32, double_quantization=False, targets=frozenset(), rank=0
)


def total(setup: Setup) -> int:
    return estimate(LLAMA, setup, CUDA).total_bytes


@pytest.mark.parametrize(
    "row", [row for row in paper.ROWS if row.scored], ids=lambda row: f"{row.model} {row.method}"
)
def test_the_founding_papers_figures_are_met(row: paper.PaperRow) -> None:
    assumed = "; ".join(paper.ASSUMPTIONS)
    found = paper.estimated(row)
    assert abs(paper.error(row)) <= paper.TOLERANCE, f"{found:.1f} GB, assuming {assumed}"


def test_four_bit_weights_and_their_scales_are_as_the_qlora_paper_counts_them() -> None:
    """4.127 bits a weight, 0.373 less than without double quantization (section 3)."""
    quantized = LLAMA.quantized_weights
    _, scales = weight_bytes(LLAMA, QLORA, Precision.BF16)
    _, plain = weight_bytes(LLAMA, replace(QLORA, double_quantization=False), Precision.BF16)
    assert scales * 8 / quantized == pytest.approx(0.127, rel=0.01)
    assert (plain - scales) * 8 / quantized == pytest.approx(0.373, rel=0.01)


def test_a_lora_matrix_pair_has_rank_times_both_sides() -> None:
    setup = replace(QLORA, targets=target_names(LLAMA, ["q_proj", "v_proj"]), rank=8)
    assert setup.trainable_parameters(LLAMA) == 32 * 2 * 8 * (4096 + 4096)
    memory = estimate(LLAMA, setup, CPU)
    assert memory.adapter_bytes == memory.gradient_bytes == 4 * setup.trainable_parameters(LLAMA)
    assert memory.optimizer_bytes == 2 * memory.adapter_bytes


def test_full_tuning_in_float32_holds_sixteen_bytes_a_weight() -> None:
    setup = replace(FULL, compute=Precision.FP32, accumulates=True)
    memory = estimate(LLAMA, setup, CPU)
    held = memory.weight_bytes + memory.gradient_bytes + memory.optimizer_bytes
    assert held == 16 * LLAMA.parameters
    assert memory.adapter_bytes == memory.quantization_bytes == 0
    on_gpu = estimate(LLAMA, setup, CUDA)  # whose step takes a copy more
    assert on_gpu.optimizer_bytes - memory.optimizer_bytes == 4 * LLAMA.parameters


def test_gradients_take_the_place_of_activations_unless_passes_add_up() -> None:
    one, several = (
        estimate(LLAMA, replace(FULL, accumulates=several), CUDA) for several in (False, True)
    )
    assert several.total_bytes - one.total_bytes == min(one.gradient_bytes, one.activation_bytes)
    assert several.total_bytes == sum(
        value for field, value in several.ListFields() if field.name != "total_bytes"
    )


@pytest.mark.parametrize(
    "smaller",
    [
        replace(QLORA, lines=2),
        replace(QLORA, line_tokens=512, answer_tokens=512),
        replace(QLORA, checkpointing=True),
        replace(QLORA, rank=8),
        replace(QLORA, targets=target_names(LLAMA, ["q_proj"])),
        replace(QLORA, optimizer=Optimizer.ADAMW_8BIT),
    ],
)
def test_less_of_anything_takes_less_memory(smaller: Setup) -> None:
    assert total(smaller) < total(QLORA)


@pytest.mark.parametrize(
    "larger",
    [
        replace(QLORA, base=Precision.INT8, double_quantization=False),
        replace(QLORA, double_quantization=False),
        replace(QLORA, preference=True),
        replace(QLORA, compute=Precision.FP32),
        FULL,
    ],
)
def test_more_of_anything_takes_more_memory(larger: Setup) -> None:
    assert total(larger) > total(QLORA)


def test_a_preference_row_is_two_sequences() -> None:
    preferences = replace(QLORA, preference=True, lines=2)
    assert preferences.tokens == QLORA.tokens
    reference = 4 * QLORA.trainable_parameters(LLAMA)
    assert total(preferences) == total(QLORA) + reference


def test_preferences_learned_by_all_weights_hold_the_model_twice() -> None:
    alone, both = FULL, replace(FULL, preference=True, lines=2)
    assert total(both) - total(alone) == 4 * LLAMA.parameters


def test_what_is_computed_in_depends_on_the_device() -> None:
    with_bfloat16, without = (estimate(LLAMA, QLORA, one) for one in (CUDA, OLD_CUDA))
    assert without.weight_bytes > with_bfloat16.weight_bytes
    assert without.activation_bytes > with_bfloat16.activation_bytes


def test_without_a_gpu_weights_that_are_not_copied_keep_the_whole_file_in_memory() -> None:
    half = replace(LLAMA, file_bytes=2 * LLAMA.parameters, file_kind="F16")
    computed_as_stored, otherwise = (
        estimate(half, replace(QLORA, compute=compute), CPU)
        for compute in (Precision.FP16, Precision.FP32)
    )
    mapped = 2 * LLAMA.quantized_weights
    assert computed_as_stored.overhead_bytes > mapped > 10**9
    heap = otherwise.overhead_bytes - CPU.fixed_bytes
    assert heap < mapped


def test_smaller_passes_than_a_step_add_up() -> None:
    assert not QLORA.accumulates
    half, least = QLORA.in_parts(2), QLORA.in_parts()
    assert (half.lines, half.line_tokens, half.accumulates) == (2, 1024, True)
    assert (least.lines, least.line_tokens, least.accumulates) == (1, 1024, True)
    assert not least.in_parts().in_parts(1).lines > 1
    assert not replace(QLORA, lines=1).in_parts().accumulates, "there is nothing to add up"


def test_lines_that_rows_share_are_cut_down_to_rows() -> None:
    packed = replace(QLORA, lines=2, packed=True, row_tokens=256)
    half, least = packed.in_parts(2), packed.in_parts()
    assert (half.lines, half.line_tokens, half.answer_tokens) == (4, 256, 256)
    assert (least.lines, least.line_tokens, least.accumulates) == (1, 256, True)
    assert half.tokens * 2 == packed.tokens
