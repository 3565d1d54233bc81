"""Proof that a run learns with true gradients, before its first step and after each evaluation.

The loss also falls without them: what the residual path alone can learn looks like progress and
destroys the model (ADR 8).
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from luthier_common.errors import Internal
from transformers import TrainerCallback

from luthier_trainer.run.model import Quantized, quantized_layers

_LEAST_COSINE = 0.9
"""Of a gradient through a 4-bit layer with the dense one; right ones are above 0.95."""
_LAYER = re.compile(r"\.(\d+)\.")
_INT8_MAX = 127


class GradientCheck(TrainerCallback):  # type: ignore[misc]
    """Checks at the first step, and at the first step after each evaluation; Internal."""

    def __init__(self) -> None:
        self._due = True

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """An evaluation is what has broken gradients before."""
        self._due = True

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: torch.nn.Module, **_: Any
    ) -> None:
        """Look at the gradients of this step."""
        if self._due:
            check_flow(model)
            # Later than at the first step, numbers that are none are the data's or the learning
            # rate's fault: the log has them, and `Curves` says so.
            if state.global_step == 0 or _is_finite(model):
                check_first_layer(model)
            self._due = False


def check_first_layer(model: torch.nn.Module) -> None:
    """Internal unless every matrix that is tuned in the first layer has got a gradient.

    Of LoRA that is B: A's is zero while B is.
    """
    tuned = [
        (name, weight)
        for name, weight in model.named_parameters()
        if weight.requires_grad and weight.dim() == 2 and ".lora_A." not in name
    ]
    layers = [(name, weight) for name, weight in tuned if _LAYER.search(name)] or tuned
    first = min(_layer(name) for name, _ in layers)
    for name, weight in layers:
        if _layer(name) == first and not _is_gradient(weight.grad):
            raise _broken(f"none, or one that is not finite, reaches {name}")


def check_flow(model: torch.nn.Module) -> None:
    """Internal unless the gradient through every quantized layer is the dense layer's."""
    for name, layer in quantized_layers(model):
        cosine = flow_cosine(layer)
        if not cosine >= _LEAST_COSINE:
            raise _broken(f"through {name} it has cosine {cosine:.2f} with the dense one")


def flow_cosine(layer: Quantized) -> float:
    """Return the cosine of the gradient through a layer with that through its dense weights."""
    dense = _dense(layer)
    rows, columns = dense.shape
    chance = torch.Generator().manual_seed(0)
    # In the type that the layer computes in: there it is that the run trusts it.
    given = torch.randn(1, columns, generator=chance).to(dense.device, _computed_in(layer))
    upstream = torch.randn(1, rows, generator=chance).to(dense.device)
    given.requires_grad_()
    with torch.enable_grad():
        output = layer(given)
    if not output.requires_grad:
        return 0.0
    # None where the graph does not lead back: so it is with what bitsandbytes has repacked.
    (through,) = torch.autograd.grad(output, given, upstream.to(output.dtype), allow_unused=True)
    if through is None:
        return 0.0
    expected = upstream @ dense.float()
    return float(torch.cosine_similarity(through.float(), expected).item())


def _dense(layer: Quantized) -> torch.Tensor:
    """Return a layer's weights as floats, (outputs, inputs)."""
    weight = layer.weight
    if isinstance(layer, Linear4bit):
        return cast(torch.Tensor, dequantize_4bit(weight.data, weight.quant_state))
    # LLM.int8(), equation 1: a scale for each row; moved into the state by the first pass.
    scales = weight.SCB if weight.SCB is not None else layer.state.SCB
    return cast(torch.Tensor, weight.data.float() * (scales.float() / _INT8_MAX).unsqueeze(1))


def _computed_in(layer: Quantized) -> torch.dtype:
    if isinstance(layer, Linear4bit) and layer.compute_dtype is not None:
        return cast(torch.dtype, layer.compute_dtype)
    return torch.float32


def _layer(name: str) -> int:
    number = _LAYER.search(name)
    return int(number.group(1)) if number else 0


def _is_finite(model: torch.nn.Module) -> bool:
    gradients = (weight.grad for weight in model.parameters() if weight.grad is not None)
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def _is_gradient(gradient: torch.Tensor | None) -> bool:
    if gradient is None:
        return False
    return bool(torch.isfinite(gradient).all()) and bool(gradient.any())


def _broken(how: str) -> Internal:
    return Internal(
        f"the gradients of this machine cannot be trusted: {how}; nothing was learned from them",
        reason="GRADIENTS_BROKEN",
    )
