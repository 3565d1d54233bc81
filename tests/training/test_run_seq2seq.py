"""Encoder-decoders: every way of tuning a T5 on pairs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import BF16, FP4, FP32, FULL, INT8
from luthier_common.errors import InvalidArgument
from luthier_trainer.run.data import load
from luthier_trainer.run.model import load_model, load_tokenizer
from luthier_trainer.run.rows import Row, Seq2SeqFormat

from tests.support.tiny_runs import (
    CHAT,
    CONTEXT,
    NAMES,
    PAIR,
    STEPS,
    frozen,
    inputs_of,
    mean_loss,
    reloaded,
    run,
)

LINEAR = 2 * (4 + 3) + 2 * (4 + 4 + 3)  # attention, attention to the encoder, gated feed-forward
WO = 4  # which stays in float32
HELD: dict[str, tuple[dict[str, Any], str, float]] = {
    "fp32": ({"base_precision": FP32}, "weights in FP32", 1e-4),
    "bf16": ({"base_precision": BF16}, "weights in BF16", 3e-2),
    "nf4": ({}, f"{LINEAR - WO} linear layers in NF4 with double quantization", 1e-4),
    "fp4": (
        {"base_precision": FP4, "double_quantization": False},
        f"{LINEAR - WO} linear layers in FP4",
        1e-4,
    ),
    "int8": ({"base_precision": INT8}, f"{LINEAR - WO} linear layers in 8 bits", 3e-2),
}


@pytest.fixture(scope="module")
def judged_rows(t5: Path, rows: Path) -> list[Row]:
    form = Seq2SeqFormat(load_tokenizer(t5))
    return load(rows / f"{PAIR}_judged.jsonl", form, CONTEXT).rows


@pytest.mark.parametrize("held", HELD)
def test_lora_beside_a_t5_however_it_is_held(
    held: str, t5: Path, rows: Path, tmp_path: Path, judged_rows: list[Row]
) -> None:
    chosen, said, exactly = HELD[held]
    inputs = inputs_of(t5, rows, tmp_path, PAIR, judged=True, **chosen)
    tuned = run(inputs)
    assert len(tuned.losses) == STEPS
    assert sum(tuned.losses[-2:]) < 0.75 * sum(tuned.losses[:2])
    assert tuned.said[0].startswith(f"{said}; ")

    before, after = frozen(load_model(t5, inputs.hyperparameters)), frozen(tuned.model)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name

    assert json.loads(tuned.files[0])["task_type"] == "SEQ_2_SEQ_LM"
    assert len(tuned.weights) == 2 * LINEAR
    for side in ("encoder", "decoder"):
        learned = [weight for name, weight in tuned.weights.items() if f".{side}." in name]
        assert learned
        assert all(weight.any() for weight in learned)
    model = reloaded(t5, inputs.hyperparameters, tuned.folder)
    found = mean_loss(model, judged_rows)
    assert found == pytest.approx(tuned.outputs.metrics["valid_loss"], rel=exactly)
    with model.disable_adapter():
        untuned = mean_loss(model, judged_rows)
    assert untuned == pytest.approx(tuned.outputs.metrics["base_valid_loss"], rel=exactly)
    assert untuned > 1.2 * found


def test_full_tuning_of_a_t5_makes_a_model(
    t5: Path, rows: Path, tmp_path: Path, judged_rows: list[Row]
) -> None:
    inputs = inputs_of(t5, rows, tmp_path, PAIR, judged=True, tuning_mode=FULL, base_precision=FP32)
    tuned = run(inputs)
    assert sum(tuned.losses[-2:]) < 0.85 * sum(tuned.losses[:2])
    model = reloaded(tuned.folder, inputs.hyperparameters)
    assert all(
        not torch.equal(weight, before)
        for weight, before in zip(
            model.parameters(), reloaded(t5, inputs.hyperparameters).parameters(), strict=True
        )
    )
    found = mean_loss(model, judged_rows)
    assert found == pytest.approx(tuned.outputs.metrics["valid_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("wanted", "matrices"), [(["q", "v"], 2 * 2 * 6), (["encoder.*.q"], 2 * 2)]
)
def test_modules_of_both_sides_are_found_by_name_and_of_one_by_pattern(
    t5: Path, rows: Path, tmp_path: Path, wanted: list[str], matrices: int
) -> None:
    inputs = inputs_of(t5, rows, tmp_path, PAIR, target_modules=wanted, epoch_count=1)
    tuned = run(inputs)
    assert len(tuned.weights) == matrices
    if wanted == ["encoder.*.q"]:
        assert all(".encoder." in name and ".q." in name for name in tuned.weights)


def test_checkpointing_learns_the_same(t5: Path, rows: Path, tmp_path: Path) -> None:
    plain, checkpointed = (
        run(inputs_of(t5, rows, tmp_path / str(again), PAIR, gradient_checkpointing=again))
        for again in (False, True)
    )
    assert checkpointed.losses == pytest.approx(plain.losses, abs=1e-5)
    for name, weight in checkpointed.weights.items():
        # The gradients of the encoder's output add up in another order.
        torch.testing.assert_close(weight, plain.weights[name], atol=1e-4, rtol=1e-3, msg=name)


def test_tokens_of_both_sides_are_counted(t5: Path, rows: Path, tmp_path: Path) -> None:
    tuned = run(inputs_of(t5, rows, tmp_path, PAIR, epoch_count=2))
    tokens = len("Item a?") + 1 + len("It is aaa.") + 1
    assert tuned.outputs.trained_tokens == 2 * len(NAMES) * tokens


def test_rows_that_are_no_pairs_are_refused(t5: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="line 1: is not a pair") as refused:
        run(inputs_of(t5, rows, tmp_path, CHAT))
    assert refused.value.reason == "SEQ2SEQ_NEEDS_PAIRS"
