"""The quantized model learns with true gradients, and a run that does not is found out."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import bitsandbytes.functional
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from luthier.trainer.v1.tuning_pb2 import BF16, FP4, FP16, FP32, INT8, NF4, Precision
from luthier_common.errors import Internal
from luthier_trainer.run import task
from luthier_trainer.run.gradients import (
    GradientCheck,
    check_first_layer,
    check_flow,
    flow_cosine,
)
from luthier_trainer.run.model import (
    Quantized,
    held_as,
    load_model,
    lora_config,
    quantized_layers,
    trainable_parameters,
)
from luthier_trainer.run.trainers import CausalTrainer

from tests.support.tiny_runs import hyperparameters, inputs_of, run

RANK = 4
LINEARS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
HAS_AVX512_BF16 = bitsandbytes.functional.has_avx512bf16()

TOKENS = torch.randint(5, 250, (3, 40), generator=torch.Generator().manual_seed(0))
BATCH = {"input_ids": TOKENS, "labels": TOKENS}


def loaded(base: Path, **chosen: Any) -> Any:
    return load_model(base, hyperparameters(lora_rank=RANK, lora_alpha=2 * RANK, **chosen))


@pytest.fixture
def model(llama: Path) -> Any:
    return adapted(loaded(llama))


@pytest.fixture(params=[NF4, FP4, INT8], ids=Precision.Name)
def held(request: pytest.FixtureRequest, llama: Path) -> Any:
    """The model with LoRA, its layers held in one of the ways to quantize them."""
    return adapted(loaded(llama, base_precision=request.param))


def adapted(model: Any) -> Any:
    """Return a model with LoRA none of whose matrices is zero, so that each gets a gradient."""
    from peft import get_peft_model

    chosen = hyperparameters(lora_rank=RANK, lora_alpha=2 * RANK)
    model = get_peft_model(model, lora_config(model, chosen))
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, matrix in lora_matrices(model):
            matrix.copy_(torch.randn(matrix.shape, generator=chance) * 0.2)
    return model


def lora_matrices(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if ".lora_" in name]


def evaluate(model: Any) -> None:
    """Do what an evaluation between two steps does."""
    model.eval()
    with torch.no_grad():
        model(**BATCH)
    model.train()


def learn(model: Any) -> dict[str, torch.Tensor]:
    """Return the gradient of every LoRA matrix after one backward pass."""
    model.zero_grad()
    model(**BATCH).loss.backward()
    gradients = {name: weight.grad for name, weight in lora_matrices(model)}
    return {name: grad for name, grad in gradients.items() if grad is not None}


class Detached(Linear4bit):  # type: ignore[misc]
    """A 4-bit layer through which no gradient comes, as with the repacked weights of ADR 8."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = super().forward(x).detach()
        return result


class Detached8bit(Linear8bitLt):  # type: ignore[misc]
    """The same of 8 bits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = super().forward(x).detach()
        return result


def break_by_detaching(model: Any) -> None:
    """Break every quantized layer the way the defect does, on any CPU."""
    for _, layer in quantized_layers(model):
        layer.__class__ = Detached if isinstance(layer, Linear4bit) else Detached8bit


def break_by_repacking(model: Any) -> None:
    """Let bitsandbytes repack the weights, and evaluate; where it does not, detach."""
    layers = [layer for _, layer in quantized_layers(model)]
    if not HAS_AVX512_BF16 or not all(isinstance(layer, Linear4bit) for layer in layers):
        return break_by_detaching(model)
    for layer in layers:
        # Its kernel wants whole blocks of 64 weights: here, each layer's down_proj has them.
        layer.support_avx512bf16_for_cpu = layer.in_features % 64 == 0
    evaluate(model)
    return None


BREAKS = [break_by_detaching, break_by_repacking]


QUANTIZED: list[tuple[dict[str, Any], str, float]] = [
    ({}, "NF4 with double quantization", 0.5),
    ({"double_quantization": False}, "NF4", 0.5),
    ({"base_precision": FP4, "double_quantization": True}, "FP4 with double quantization", 0.5),
    ({"base_precision": FP4, "double_quantization": False}, "FP4", 0.5),
    ({"base_precision": INT8}, "8 bits", 1.0),
]


@pytest.mark.parametrize(("chosen", "said", "bytes_a_weight"), QUANTIZED)
def test_all_linear_layers_but_the_output_are_quantized(
    llama: Path, chosen: dict[str, Any], said: str, bytes_a_weight: float
) -> None:
    model = loaded(llama, **chosen)
    layers = dict(quantized_layers(model))
    assert len(layers) == 2 * len(LINEARS)
    assert {name.rpartition(".")[2] for name in layers} == LINEARS
    assert {held_as(layer) for layer in layers.values()} == {said}
    plain = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not isinstance(module, Quantized)
    ]
    assert plain == ["lm_head"]
    for layer in layers.values():
        assert layer.weight.nbytes == bytes_a_weight * layer.in_features * layer.out_features
        if said.endswith("double quantization"):
            assert layer.weight.quant_state.state2 is not None, "the scales are quantized, too"


@pytest.mark.parametrize(
    ("chosen", "dtype"),
    [
        ({}, torch.float32),
        ({"compute_precision": BF16}, torch.bfloat16),
        ({"compute_precision": FP16}, torch.float16),
        ({"compute_precision": FP32}, torch.float32),
    ],
)
def test_four_bit_layers_compute_in_what_is_asked_for(
    llama: Path, chosen: dict[str, Any], dtype: torch.dtype
) -> None:
    model = loaded(llama, **chosen)
    assert {layer.compute_dtype for _, layer in quantized_layers(model)} == {dtype}
    assert model.lm_head.weight.dtype == dtype
    check_flow(model)


@pytest.mark.parametrize(
    ("precision", "dtype"), [(FP32, torch.float32), (BF16, torch.bfloat16), (FP16, torch.float16)]
)
def test_weights_that_are_not_quantized_are_held_as_asked_for(
    llama: Path, precision: Any, dtype: torch.dtype
) -> None:
    model = loaded(llama, base_precision=precision)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert not any(quantized_layers(model))


def test_the_adapter_is_on_every_linear_layer_and_nothing_else_learns(model: Any) -> None:
    hidden, wide = 32, 64
    attention = 4 * RANK * (hidden + hidden)
    feed_forward = 3 * RANK * (hidden + wide)
    assert trainable_parameters(model) == 2 * (attention + feed_forward)
    assert all(".lora_" in name for name, w in model.named_parameters() if w.requires_grad)


def test_gradients_after_an_evaluation_are_those_of_the_dense_model(llama: Path, held: Any) -> None:
    model = held
    evaluate(model)
    gradients = learn(model)
    expected = learn(dense_twin(llama, model))
    assert len(expected) == 2 * 2 * len(LINEARS)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        cosine = torch.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0)
        assert cosine > 0.9, name
        assert 0.8 < float(gradient.norm() / expected[name].norm()) < 1.25, name
    check_first_layer(model)
    check_flow(model)


def dequantized(layer: Quantized) -> torch.Tensor:
    if isinstance(layer, Linear4bit):
        state = layer.weight.quant_state
        weight: torch.Tensor = bitsandbytes.functional.dequantize_4bit(layer.weight.data, state)
        return weight
    scales = layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB
    floats: torch.Tensor = layer.weight.data.float() * scales.float().unsqueeze(1) / 127
    return floats


def dense_twin(base: Path, model: Any) -> Any:
    """Return the float32 model whose weights are the dequantized ones, with the same LoRA."""
    from transformers import AutoModelForCausalLM

    dense: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    # Before peft renames them, its linear layers come in the order of the quantized ones.
    linears = [m for m in dense.model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for linear, (_, layer) in zip(linears, quantized_layers(model), strict=True):
            weight = dequantized(layer)
            assert not torch.equal(linear.weight, weight)
            linear.weight.copy_(weight)
    return adapted(dense).train()


@pytest.mark.parametrize("break_", BREAKS)
def test_a_broken_backward_pass_is_found(held: Any, break_: Callable[[Any], None]) -> None:
    check_flow(held)
    evaluate(held)
    check_flow(held)
    break_(held)
    with pytest.raises(Internal, match="has cosine") as broken:
        check_flow(held)
    assert broken.value.reason == "GRADIENTS_BROKEN"


@pytest.mark.parametrize("break_", BREAKS)
def test_the_loss_falls_on_broken_gradients_too(model: Any, break_: Callable[[Any], None]) -> None:
    break_(model)
    optimizer = torch.optim.Adam([weight for _, weight in lora_matrices(model)], lr=1e-2)
    losses = []
    for _ in range(10):
        assert learn(model), "the residual path still carries some"
        optimizer.step()
        losses.append(float(model(**BATCH).loss.detach()))
    assert losses[-1] < losses[0] - 0.1, "which is why the loss proves nothing"


def test_a_layer_with_other_weights_behind_its_gradient_is_found(held: Any) -> None:
    name, layer = next(iter(quantized_layers(held)))
    assert flow_cosine(layer) > 0.99
    other = (
        Linear4bit(32, 32, bias=False, quant_type="nf4")
        if isinstance(layer, Linear4bit)
        else Linear8bitLt(32, 32, bias=False, has_fp16_weights=False)
    )
    layer.forward = other.to("cpu").forward
    assert abs(flow_cosine(layer)) < 0.9
    with pytest.raises(Internal, match=name):
        check_flow(held)


def test_an_encoder_that_no_gradient_reaches_is_found(t5: Path) -> None:
    model = adapted(loaded(t5))
    model(**BATCH).loss.backward()
    check_first_layer(model)
    model.zero_grad()
    encoder = model.get_base_model().get_encoder()
    encoder.register_forward_hook(lambda *given: given[2].__class__(given[2][0].detach()))
    model(**BATCH).loss.backward()
    with pytest.raises(Internal, match=r"reaches .*encoder\.block\.0\."):
        check_first_layer(model)


@pytest.mark.parametrize("value", [None, 0.0, float("nan"), float("inf")])
def test_a_first_layer_without_a_gradient_is_found(model: Any, value: float | None) -> None:
    learn(model)
    check_first_layer(model)
    name = "layers.0.mlp.up_proj.lora_B.default.weight"
    matrix = dict(model.named_parameters())[f"base_model.model.model.{name}"]
    matrix.grad = None if value is None else torch.full_like(matrix, value)
    with pytest.raises(Internal, match=name) as broken:
        check_first_layer(model)
    assert broken.value.reason == "GRADIENTS_BROKEN"


def test_one_number_that_is_none_is_enough(model: Any) -> None:
    learn(model)
    matrix = next(
        weight for name, weight in lora_matrices(model) if "layers.0" in name and "_B" in name
    )
    assert matrix.grad is not None
    matrix.grad[0, 0] = float("nan")
    with pytest.raises(Internal):
        check_first_layer(model)


def step(check: GradientCheck, model: Any, number: int) -> None:
    """Do what the trainer does between a backward pass and the optimizer's step."""
    state = SimpleNamespace(global_step=number)
    check.on_pre_optimizer_step(None, state, None, model=model)


def test_the_check_is_due_at_the_first_step_and_after_each_evaluation(model: Any) -> None:
    check = GradientCheck()
    learn(model)
    step(check, model, 0)
    break_by_detaching(model)
    step(check, model, 1)  # not due
    for number in (2, 5):
        check.on_evaluate(None, None, None)
        with pytest.raises(Internal):
            step(check, model, number)
    with pytest.raises(Internal):
        step(GradientCheck(), model, 0)


def test_a_check_that_has_passed_after_an_evaluation_is_due_at_the_next_one(model: Any) -> None:
    check = GradientCheck()
    learn(model)
    for number in range(3):
        step(check, model, number)
        check.on_evaluate(None, None, None)
    model.zero_grad()
    with pytest.raises(Internal):
        step(check, model, 3)


def test_divergence_after_an_evaluation_is_not_blamed_on_the_machine(model: Any) -> None:
    learn(model)
    for _, matrix in lora_matrices(model):
        matrix.grad = torch.full_like(matrix, float("nan"))
    with pytest.raises(Internal):
        step(GradientCheck(), model, 0)
    step(GradientCheck(), model, 7)  # the log's `grad_norm` ends the run as DIVERGED
    break_by_detaching(model)
    with pytest.raises(Internal):
        step(GradientCheck(), model, 7)


def test_small_gradients_survive_float16(llama: Path, rows: Path, tmp_path: Path) -> None:
    """With a loss scale as without one in float32, where unscaled ones would be lost."""

    def learned(compute: Precision, scale: float) -> dict[str, torch.Tensor]:
        inputs = inputs_of(
            llama, rows, tmp_path / f"{compute} {scale}", epoch_count=1, compute_precision=compute
        )
        found: dict[str, torch.Tensor] = {}

        class Noting(CausalTrainer):
            def training_step(self, model: Any, inputs: Any, items: Any = None) -> Any:
                self.course.loss_scale = scale
                # As many learned tokens in a step make each one's share small.
                loss = super().training_step(model, inputs, items)
                found.update(
                    {n: w.grad.clone() for n, w in lora_matrices(model) if w.grad is not None}
                )
                return loss

            def items(self, inputs: Any) -> int:
                return super().items(inputs) * 100_000

        with mock.patch.object(task, "CausalTrainer", Noting):
            run(inputs)
        return found

    expected = learned(FP32, 1.0)
    scaled, plain = learned(FP16, 2.0**15), learned(FP16, 1.0)

    def lost(gradients: dict[str, torch.Tensor]) -> float:
        return sum(
            float((gradients[name] - expected[name]).norm() / expected[name].norm())
            for name in expected
            if ".lora_B." in name
        )

    assert lost(scaled) < lost(plain) / 2


def test_a_scale_that_is_too_much_is_halved(llama: Path, rows: Path, tmp_path: Path) -> None:
    scales: list[float] = []

    class Noting(CausalTrainer):
        def training_step(self, model: Any, inputs: Any, items: Any = None) -> Any:
            if not scales:
                self.course.loss_scale = 2.0**40
            loss = super().training_step(model, inputs, items)
            scales.append(self.course.loss_scale)
            return loss

    inputs = inputs_of(llama, rows, tmp_path / "fp16", epoch_count=1, compute_precision=FP16)
    with mock.patch.object(task, "CausalTrainer", Noting):
        tuned = run(inputs)
    assert 1 < scales[0] < 2.0**40
    assert all(math.isfinite(loss) for loss in tuned.losses)
    assert tuned.losses[0] == pytest.approx(
        run(
            inputs_of(llama, rows, tmp_path / "fp32", epoch_count=1, compute_precision=FP32)
        ).losses[0],
        rel=1e-2,
    )
