"""LoRA's layers in fewer passes over memory, for the same result.

peft casts the whole input to float32 and adds, scales and casts back the whole output, each time a
pass over memory; on a CPU these cost as much as LoRA's products themselves. Here the products are
in what the layer computes in, and the matrices that learn stay float32, as do their gradients.
"""

from __future__ import annotations

import types
from typing import Any, cast

import torch
from peft.tuners.lora.layer import LoraLayer
from torch.nn import functional

_ADAPTER = "default"


class _Beside(torch.autograd.Function):
    """`base + scale * x A^T B^T`, written into `base`."""

    @staticmethod
    def forward(ctx: Any, x: Any, base: Any, down: Any, up: Any, scale: float) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ down.to(base.dtype).t()
        base.view(-1, base.shape[-1]).addmm_(low, (up * scale).to(base.dtype).t())
        ctx.mark_dirty(base)
        ctx.save_for_backward(flat, low, down, up)
        ctx.scale = scale
        return base

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        flat, low, down, up = ctx.saved_tensors
        given = upstream.reshape(-1, upstream.shape[-1])
        through, to_down, to_up = _learned(given, flat, low, up, ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (through @ down.to(given.dtype)).view(*upstream.shape[:-1], -1)
        return to_x, upstream, to_down, to_up, None


class _Around(torch.autograd.Function):
    """The same with the frozen product inside: `x W^T + b + scale * x A^T B^T`."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, down: Any, up: Any, scale: float) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ down.to(x.dtype).t()
        base = functional.linear(x, weight, bias)
        base.view(-1, base.shape[-1]).addmm_(low, (up * scale).to(x.dtype).t())
        ctx.save_for_backward(flat, low, weight, down, up)
        ctx.scale = scale
        return base

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        flat, low, weight, down, up = ctx.saved_tensors
        given = upstream.reshape(-1, upstream.shape[-1])
        through, to_down, to_up = _learned(given, flat, low, up, ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (given @ weight).addmm_(through, down.to(given.dtype))
            to_x = to_x.view(*upstream.shape[:-1], -1)
        return to_x, None, None, to_down, to_up, None


def _learned(given: Any, flat: Any, low: Any, up: Any, scale: float) -> tuple[Any, Any, Any]:
    """Return the gradient between the matrices, that of A, and that of B."""
    through = given @ (up * scale).to(given.dtype)
    return through, (through.t() @ flat).float(), (given.t() @ low).float() * scale


def fuse(model: torch.nn.Module) -> None:
    """Have every layer with LoRA compute so wherever it can; elsewhere it stays peft's."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and _ADAPTER in layer.lora_A:
            layer.forward = types.MethodType(_forward, layer)


def _forward(self: Any, x: torch.Tensor, *arguments: Any, **options: Any) -> Any:
    adapted = self.active_adapters == [_ADAPTER] and not (self.disable_adapters or self.merged)
    if (
        not adapted
        or arguments
        or options
        or not isinstance(self.lora_dropout[_ADAPTER], torch.nn.Identity)
    ):
        return type(self).forward(self, x, *arguments, **options)
    down, up = self.lora_A[_ADAPTER].weight, self.lora_B[_ADAPTER].weight
    scale, frozen = self.scaling[_ADAPTER], self.base_layer
    if torch.is_autocast_enabled(x.device.type):  # which chooses the types itself
        return type(self).forward(self, x)
    if type(frozen) is torch.nn.Linear:
        return _apply(_Around, x, frozen.weight, frozen.bias, down, up, scale)
    base = frozen(x)
    if base._is_view():  # autograd forbids to write into what bitsandbytes has reshaped
        base = base.clone()
    return _apply(_Beside, x, base, down, up, scale)


def _apply(function: Any, *arguments: Any) -> torch.Tensor:
    return cast(torch.Tensor, function.apply(*arguments))
