"""The quantized model learns with true gradients, and a run that does not is found out."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes.functional
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from luthier_common.errors import Internal
from luthier_trainer.run.gradients import (
    GradientCheck,
    check_first_layer,
    check_flow,
    flow_cosine,
)
from luthier_trainer.run.model import (
    is_double_nf4,
    load_quantized,
    lora_config,
    quantized_layers,
    trainable_parameters,
)

from tests.support.tiny_model import save_base

RANK = 4
LINEARS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
HAS_AVX512_BF16 = bitsandbytes.functional.has_avx512bf16()

TOKENS = torch.randint(5, 250, (3, 40), generator=torch.Generator().manual_seed(0))
BATCH = {"input_ids": TOKENS, "labels": TOKENS}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("gradients") / "base")


@pytest.fixture
def model(base: Path) -> Any:
    return adapted(load_quantized(base))


def adapted(quantized: Any) -> Any:
    """Return a model with LoRA none of whose matrices is zero, so that each gets a gradient."""
    from peft import get_peft_model

    model = get_peft_model(quantized, lora_config(RANK, 2 * RANK))
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
    """A 4-bit layer through which no gradient comes, as with the repacked weights of ADR 6."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = super().forward(x).detach()
        return result


def break_by_detaching(model: Any) -> None:
    """Break every 4-bit layer the way the defect does, on any CPU."""
    for _, layer in quantized_layers(model):
        layer.__class__ = Detached


def break_by_repacking(model: Any) -> None:
    """Let bitsandbytes repack the weights, and evaluate; on CPUs without it, detach."""
    if not HAS_AVX512_BF16:
        return break_by_detaching(model)
    for _, layer in quantized_layers(model):
        # Its kernel wants whole blocks of 64 weights: here, each layer's down_proj has them.
        layer.support_avx512bf16_for_cpu = layer.in_features % 64 == 0
    evaluate(model)
    return None


BREAKS = [break_by_detaching, break_by_repacking]


def test_all_linear_layers_but_the_output_are_nf4_with_double_quantization(model: Any) -> None:
    layers = dict(quantized_layers(model))
    assert len(layers) == 2 * len(LINEARS)
    assert {name.rsplit(".", 2)[-2] for name in layers} == LINEARS
    assert all(map(is_double_nf4, layers.values()))
    plain = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and not isinstance(module, Linear4bit)
        and ".lora_" not in name
    ]
    assert [name.rsplit(".", 1)[-1] for name in plain] == ["lm_head"]
    for layer in layers.values():
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() == layer.in_features * layer.out_features / 2


@pytest.mark.parametrize(
    "options", [{"quant_type": "fp4"}, {"quant_type": "nf4", "compress_statistics": False}]
)
def test_other_quantizations_are_not_double_nf4(options: dict[str, Any]) -> None:
    layer = Linear4bit(64, 64, **options)
    assert not is_double_nf4(layer), "not quantized at all yet"
    layer.to("cpu")
    assert layer.weight.quant_state is not None
    assert not is_double_nf4(layer)


def test_the_adapter_is_on_every_linear_layer_and_nothing_else_learns(model: Any) -> None:
    hidden, wide = 32, 64
    attention = 4 * RANK * (hidden + hidden)
    feed_forward = 3 * RANK * (hidden + wide)
    assert trainable_parameters(model) == 2 * (attention + feed_forward)
    assert all(".lora_" in name for name, w in model.named_parameters() if w.requires_grad)


def test_gradients_after_an_evaluation_are_those_of_the_dense_model(base: Path, model: Any) -> None:
    evaluate(model)
    gradients = learn(model)
    expected = learn(dense_twin(base, model))
    assert len(expected) == 2 * 2 * len(LINEARS)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        cosine = torch.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0)
        assert cosine > 0.9, name
        assert 0.8 < float(gradient.norm() / expected[name].norm()) < 1.25, name
    check_first_layer(model)
    check_flow(model)


def dense_twin(base: Path, model: Any) -> Any:
    """Return the float32 model whose weights are the dequantized ones, with the same LoRA."""
    from transformers import AutoModelForCausalLM

    dense: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    # Before peft renames them, its linear layers come in the order of the quantized ones.
    linears = [m for m in dense.model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for linear, (_, layer) in zip(linears, quantized_layers(model), strict=True):
            state = layer.weight.quant_state
            weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, state)
            assert not torch.equal(linear.weight, weight)
            linear.weight.copy_(weight)
    return adapted(dense).train()


@pytest.mark.parametrize("break_", BREAKS)
def test_a_broken_backward_pass_is_found(model: Any, break_: Callable[[Any], None]) -> None:
    check_flow(model)
    break_(model)
    with pytest.raises(Internal, match="has cosine") as broken:
        check_flow(model)
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


def test_a_layer_with_other_weights_behind_its_gradient_is_found(model: Any) -> None:
    name, layer = next(iter(quantized_layers(model)))
    before = flow_cosine(layer)
    assert before > 0.99
    other = Linear4bit(32, 32, bias=False, quant_type="nf4")
    layer.forward = other.to("cpu").forward
    assert abs(flow_cosine(layer)) < 0.9
    with pytest.raises(Internal, match=name):
        check_flow(model)


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
