"""Every way of tuning a decoder: what it learns, what it holds, what it leaves as it was."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import (
    ADAMW,
    ADAMW_8BIT,
    BF16,
    FP4,
    FP16,
    FP32,
    FULL,
    INT8,
    PAGED_ADAMW,
    PAGED_ADAMW_8BIT,
)
from luthier_common.errors import InvalidArgument
from luthier_trainer.run import resume_state
from luthier_trainer.run.data import load
from luthier_trainer.run.model import load_model, load_tokenizer
from luthier_trainer.run.rows import CausalFormat, Row
from luthier_trainer.run.tune import STATES
from safetensors.torch import load_file
from transformers.models.llama.modeling_llama import LlamaMLP

from tests.support.tiny_runs import (
    CHAT,
    CONTEXT,
    STEPS,
    Run,
    frozen,
    inputs_of,
    mean_loss,
    reloaded,
    run,
    write_rows,
)

LAYERS, MATRICES = 2, 2 * 2 * 7  # two of LoRA's beside each of seven in each layer
HELD: dict[str, tuple[dict[str, Any], str, float]] = {
    "fp32": ({"base_precision": FP32}, "weights in FP32", 1e-4),
    "bf16": ({"base_precision": BF16}, "weights in BF16", 3e-2),
    "fp16": ({"base_precision": FP16}, "weights in FP16", 3e-3),
    "int8": ({"base_precision": INT8}, "14 linear layers in 8 bits", 3e-2),
    "nf4": ({}, "14 linear layers in NF4 with double quantization", 1e-4),
    "nf4, simple": ({"double_quantization": False}, "14 linear layers in NF4", 1e-4),
    "fp4": (
        {"base_precision": FP4},
        "14 linear layers in FP4 with double quantization",
        1e-4,
    ),
    "nf4 in bf16": (
        {"compute_precision": BF16},
        "14 linear layers in NF4 with double quantization",
        3e-2,
    ),
    "nf4 in fp16": (
        {"compute_precision": FP16},
        "14 linear layers in NF4 with double quantization",
        3e-3,
    ),
}
"""What is chosen, what the run says of it, and how exactly its losses are found again: rows share
lines while tuning, and are alone here."""


@pytest.fixture(scope="module")
def judged_rows(llama: Path, rows: Path) -> list[Row]:
    form = CausalFormat(load_tokenizer(llama), CONTEXT)
    return load(rows / f"{CHAT}_judged.jsonl", form, CONTEXT).rows


@pytest.fixture(scope="module")
def plain(llama: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """QLoRA with nothing special, to compare with."""
    return run(inputs_of(llama, rows, tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize("held", HELD)
def test_lora_beside_weights_however_they_are_held(
    held: str, llama: Path, rows: Path, tmp_path: Path, judged_rows: list[Row]
) -> None:
    chosen, said, exactly = HELD[held]
    inputs = inputs_of(llama, rows, tmp_path, judged=True, **chosen)
    tuned = run(inputs)
    assert len(tuned.losses) == STEPS
    assert sum(tuned.losses[-2:]) < 0.75 * sum(tuned.losses[:2])
    assert tuned.said[0].startswith(f"{said}; 4,352 of ")
    assert tuned.outputs.quantized_layers == (14 if "layers" in said else 0)

    before, after = frozen(load_model(llama, inputs.hyperparameters)), frozen(tuned.model)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name

    assert len(tuned.weights) == MATRICES
    assert {weight.dtype for weight in tuned.weights.values()} == {torch.float32}
    assert all(weight.any() for weight in tuned.weights.values()), "B begins at zero"
    model = reloaded(llama, inputs.hyperparameters, tuned.folder)
    found = mean_loss(model, judged_rows)
    assert found == pytest.approx(tuned.outputs.metrics["valid_loss"], rel=exactly)
    with model.disable_adapter():
        untuned = mean_loss(model, judged_rows)
    assert untuned == pytest.approx(tuned.outputs.metrics["base_valid_loss"], rel=exactly)
    assert untuned > 1.2 * found


def test_full_precision_with_a_lower_one_to_compute_in(
    llama: Path, rows: Path, tmp_path: Path
) -> None:
    exact = run(inputs_of(llama, rows, tmp_path / "fp32", base_precision=FP32))
    mixed = run(
        inputs_of(llama, rows, tmp_path / "mixed", base_precision=FP32, compute_precision=BF16)
    )
    assert mixed.said[0].endswith("computed in bfloat16")
    assert mixed.losses != exact.losses
    assert mixed.losses == pytest.approx(exact.losses, rel=0.01)
    assert {weight.dtype for weight in mixed.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("precision", "exactly"), [(FP32, 1e-4), (BF16, 3e-2)])
def test_full_tuning_makes_a_model(
    precision: Any, exactly: float, llama: Path, rows: Path, tmp_path: Path, judged_rows: list[Row]
) -> None:
    inputs = inputs_of(
        llama, rows, tmp_path, judged=True, tuning_mode=FULL, base_precision=precision
    )
    tuned = run(inputs)
    assert sum(tuned.losses[-2:]) < 0.8 * sum(tuned.losses[:2])
    base = frozen(load_model(llama, inputs.hyperparameters))
    assert tuned.outputs.trainable_parameters == sum(map(torch.Tensor.numel, base.values()))
    assert tuned.outputs.quantized_layers == 0

    assert [path.name for path in tuned.outputs.model_files] == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert tuned.weights.keys() == base.keys()
    for name, weight in tuned.weights.items():
        assert weight.dtype == base[name].dtype
        assert not torch.equal(weight, base[name]), name
    model = reloaded(tuned.folder, inputs.hyperparameters)
    found = mean_loss(model, judged_rows)
    assert found == pytest.approx(tuned.outputs.metrics["valid_loss"], rel=exactly)


def test_the_configuration_of_a_tuned_model_is_the_bases(
    llama: Path, rows: Path, tmp_path: Path
) -> None:
    tuned = run(inputs_of(llama, rows, tmp_path, tuning_mode=FULL, base_precision=FP32))
    given = json.loads((llama / "config.json").read_text())
    assert json.loads((tuned.folder / "config.json").read_text()) == given


@pytest.mark.parametrize("tuning", [{}, {"tuning_mode": FULL, "base_precision": FP32}])
def test_checkpointing_computes_activations_again_and_learns_the_same(
    llama: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: dict[str, Any]
) -> None:
    passes = 0
    forward = LlamaMLP.forward

    def counted(self: LlamaMLP, x: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        result: torch.Tensor = forward(self, x)
        return result

    monkeypatch.setattr(LlamaMLP, "forward", counted)
    runs, counts = [], []
    for checkpointing in (False, True):
        passes = 0
        inputs = inputs_of(
            llama,
            rows,
            tmp_path / str(checkpointing),
            gradient_checkpointing=checkpointing,
            **tuning,
        )
        runs.append(run(inputs))
        counts.append(passes)
    assert counts[1] - counts[0] == LAYERS * STEPS
    assert runs[0].losses == runs[1].losses
    assert runs[0].files == runs[1].files


WIDE: dict[str, Any] = {"lora_rank": 128, "lora_alpha": 128}
"""Below 4,096 weights, bitsandbytes keeps state in 32 bits."""


@pytest.fixture(scope="module")
def wide(llama: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(inputs_of(llama, rows, tmp_path_factory.mktemp("wide"), optimizer=ADAMW, **WIDE))


@pytest.mark.parametrize("optimizer", [ADAMW_8BIT, PAGED_ADAMW_8BIT, PAGED_ADAMW])
def test_optimizers_of_bitsandbytes_learn_as_adamw_does(
    llama: Path, rows: Path, tmp_path: Path, optimizer: Any, wide: Run
) -> None:
    theirs = run(inputs_of(llama, rows, tmp_path, optimizer=optimizer, **WIDE))

    assert theirs.files != wide.files
    assert theirs.losses == pytest.approx(wide.losses, rel=0.05)

    state = resume_state.newest(tmp_path / STATES)
    assert state is not None
    moments = {
        tensor.dtype
        for name, tensor in load_file(state / "optimizer.safetensors").items()
        if name.endswith((".state1", ".state2"))
    }
    assert moments == {torch.float32 if optimizer == PAGED_ADAMW else torch.uint8}


def test_dropout_is_of_the_seed_and_in_the_configuration(
    llama: Path, rows: Path, tmp_path: Path, plain: Run
) -> None:
    once, again = (
        run(inputs_of(llama, rows, tmp_path / name, lora_dropout=0.3)) for name in ("once", "again")
    )
    assert once.files == again.files
    assert once.losses[0] == plain.losses[0], "B is still zero"
    assert once.losses[-1] != plain.losses[-1]
    assert json.loads(once.files[0])["lora_dropout"] == 0.3


@pytest.mark.parametrize(
    ("wanted", "spelled", "matrices"),
    [
        (["q_proj", "v_proj"], ["q_proj", "v_proj"], 2 * 2 * LAYERS),
        (["self_attn.o_proj", "*.q_proj"], ["o_proj", "q_proj"], 2 * 2 * LAYERS),
        (
            ["*.layers.1.self_attn.?_proj"],
            [f"model.layers.1.self_attn.{letter}_proj" for letter in "koqv"],
            2 * 4,
        ),
    ],
)
def test_only_the_modules_asked_for_are_tuned(
    llama: Path,
    rows: Path,
    tmp_path: Path,
    wanted: list[str],
    spelled: list[str],
    matrices: int,
    judged_rows: list[Row],
) -> None:
    inputs = inputs_of(llama, rows, tmp_path, judged=True, target_modules=wanted)
    tuned = run(inputs)
    assert json.loads(tuned.files[0])["target_modules"] == spelled
    assert len(tuned.weights) == matrices
    ends = {name.rpartition(".")[2] for name in spelled}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in tuned.weights} == ends
    if "*.layers.1.self_attn.?_proj" in wanted:
        assert all(".layers.1." in name for name in tuned.weights)
    assert tuned.losses[-1] < 0.95 * tuned.losses[0]
    model = reloaded(llama, inputs.hyperparameters, tuned.folder)
    found = mean_loss(model, judged_rows)
    assert found == pytest.approx(tuned.outputs.metrics["valid_loss"], rel=1e-4)


@pytest.mark.parametrize("module", ["query", "lm_head", "embed_tokens", "proj"])
def test_a_module_that_the_model_does_not_have_is_refused(
    llama: Path, rows: Path, tmp_path: Path, module: str
) -> None:
    inputs = inputs_of(llama, rows, tmp_path, target_modules=["q_proj", module])
    with pytest.raises(InvalidArgument, match=f"'{module}' is no linear layer") as refused:
        run(inputs)
    assert refused.value.reason == "UNKNOWN_TARGET_MODULE"


def test_rows_learn_the_same_on_lines_of_their_own(
    llama: Path, rows: Path, tmp_path: Path, plain: Run
) -> None:
    alone = run(inputs_of(llama, rows, tmp_path, packing=False))
    assert alone.losses == pytest.approx(plain.losses, abs=1e-4)
    assert alone.files != plain.files, "sums in another order"
    assert alone.outputs.trained_tokens == plain.outputs.trained_tokens


def test_buckets_order_rows_only_where_they_do_not_share_lines(llama: Path, tmp_path: Path) -> None:
    names = ["ab" * (1 + number % 8) for number in range(16)]
    write_rows(tmp_path / "chat.jsonl", CHAT, names)

    def learn(name: str, **chosen: Any) -> Run:
        return run(inputs_of(llama, tmp_path, tmp_path / name, epoch_count=1, **chosen))

    packed = learn("packed")
    assert learn("packed, bucketed", length_buckets=True).files == packed.files
    alone, bucketed = (
        learn(f"alone {buckets}", packing=False, length_buckets=buckets)
        for buckets in (False, True)
    )
    assert bucketed.losses != alone.losses
    assert bucketed.outputs.trained_tokens == alone.outputs.trained_tokens


def test_an_adapter_is_gone_on_from(
    llama: Path, rows: Path, tmp_path: Path, judged_rows: list[Row]
) -> None:
    first = run(inputs_of(llama, rows, tmp_path / "first", judged=True, base_precision=FP32))
    inputs = inputs_of(
        llama,
        rows,
        tmp_path / "second",
        judged=True,
        base_precision=FP32,
        lora_rank=8,
        lora_dropout=0.25,
    )
    second = run(dataclasses.replace(inputs, start_adapter=first.folder))
    ended, began = first.outputs.metrics["valid_loss"], second.outputs.metrics["base_valid_loss"]
    assert began == pytest.approx(ended, abs=1e-5)
    assert second.outputs.metrics["valid_loss"] < 0.95 * ended
    config = json.loads(second.files[0])
    assert config["r"] == 4, "the adapter's rank is kept"
    assert config["lora_dropout"] == 0.25, "the job's own"
    assert [path.name for path in second.outputs.model_files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "probe.json",
    ]
    found = mean_loss(reloaded(llama, inputs.hyperparameters, second.folder), judged_rows)
    assert found == pytest.approx(second.outputs.metrics["valid_loss"], rel=1e-4)
