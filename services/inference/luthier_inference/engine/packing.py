"""Linear layers in 16 bits for CPUs: weights in the kernels' layout, siblings in one product.

oneDNN orders a plain weight anew for each product; ordered once, a product of few rows is 1.2 to
1.5 times as fast (measured, 1 to 32 rows). torch has the operations for its compiler
(`torch._inductor.fx_passes.mkldnn_fusion`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("wi_0", "wi_1"))
"""Siblings that transformers' models give the same input. What is given another is still right."""
_TYPES = (torch.bfloat16, torch.float16)
_HINT = 8
"""Rows that the layout is chosen for; it fits any number."""


def pack(model: Any) -> None:
    """Order the weights of a model's linear layers, if that pays on its device."""
    if not pays(model.device, model.dtype):
        return
    embedding = model.get_input_embeddings().weight
    for group in _groups(model):
        # A head that shares its weight with the embedding would be held twice.
        if all(linear.weight is not embedding for linear in group):
            _Packed(group)


def pays(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products are faster when their weights are ordered before."""
    return device.type == "cpu" and dtype in _TYPES and _supported(dtype)


class Product:
    """Products with one weight (outputs, inputs), as `nn.Linear` computes them."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _HINT)
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return (…, outputs) for (…, inputs)."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return product


def _supported(dtype: torch.dtype) -> bool:
    checks = {
        torch.bfloat16: "_is_mkldnn_bf16_supported",
        torch.float16: "_is_mkldnn_fp16_supported",
    }
    check = getattr(torch.ops.mkldnn, checks[dtype], None)
    return torch._C._has_mkldnn and check is not None and bool(check())


def _groups(model: nn.Module) -> Iterator[list[nn.Linear]]:
    """Yield all linear layers, siblings together."""
    for parent in model.modules():
        linear = {
            name: child for name, child in parent.named_children() if type(child) is nn.Linear
        }
        for names in _TOGETHER:
            group = [linear[name] for name in names if name in linear]
            if len({layer.bias is None for layer in group}) == 1:
                yield group
                linear = {name: layer for name, layer in linear.items() if layer not in group}
        yield from ([layer] for layer in linear.values())


class _Packed:
    """Layers that are one product, computed when the first of them is asked."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        weight = torch.cat([layer.weight.detach() for layer in layers])
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._product = Product(weight, torch.cat(biases) if biases else None)
        self._sizes = [layer.out_features for layer in layers]
        self._input: torch.Tensor | None = None
        self._parts: Sequence[torch.Tensor] = ()
        for number, layer in enumerate(layers):
            layer.forward = self._forward_of(number)  # type: ignore[method-assign]
            # Of the old weight, only what it looks like is left: shape, type, no memory.
            like = torch.empty((), dtype=weight.dtype).expand(layer.weight.shape)
            layer.weight = nn.Parameter(like, requires_grad=False)

    def _forward_of(self, number: int) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            if self._input is not x:
                product = self._product(x)
                if len(self._sizes) == 1:
                    return product
                self._input, self._parts = x, torch.split(product, self._sizes, dim=-1)
            part = self._parts[number]
            if number == len(self._sizes) - 1:
                self._input, self._parts = None, ()
            return part

        return forward
