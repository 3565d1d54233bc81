"""Adapters of other methods as LoRA: exactly what they compute, in two matrices a layer.

`methods` tells which, and what rank they come to; products are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn.functional import pad

from luthier_inference.lora_config import MethodName
from luthier_inference.methods import METHODS

Parts = Mapping[str, torch.Tensor]
"""A layer's tensors, by the ends of their names."""
Pair = tuple[torch.Tensor, torch.Tensor]
"""A (rank, inputs) and B (outputs, rank)."""


def as_lora(
    method: MethodName, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, Pair]:
    """Return the matrices of every layer in `dtype`, all of the rank of the largest, at least 1.

    The tensors have passed `check_adapter`. ValueError where a number is not finite, be it that
    it was not or that `dtype` cannot hold it.
    """
    convert = _CONVERSIONS[method]
    pairs: dict[str, Pair] = {}
    for layer, parts in METHODS[method].by_layer(tensors).items():
        down, up = (matrix.to(dtype) for matrix in convert(parts))
        if not (down.isfinite().all() and up.isfinite().all()):
            raise ValueError(f"its matrices for {layer} are not finite")
        pairs[layer] = down, up
    rank = max([1, *(len(down) for down, _ in pairs.values())])
    return {layer: _padded(pair, rank) for layer, pair in pairs.items()}


def _padded(pair: Pair, rank: int) -> Pair:
    """Return the same with rows and columns of zeros: an adapter has one rank on the device."""
    down, up = pair
    more = rank - len(down)
    return (pad(down, (0, 0, 0, more)), pad(up, (0, more))) if more else pair


def _lora(parts: Parts) -> Pair:
    return parts["lora_A.weight"], parts["lora_B.weight"]


def _adalora(parts: Parts) -> Pair:
    """E (rank, 1) holds the singular values."""
    return parts["lora_A"].float() * parts["lora_E"].float(), parts["lora_B"].float()


def _loha(parts: Parts) -> Pair:
    """Products of sums, number by number, are sums over all pairs of ranks."""
    left, right = parts["hada_w1_a"].float(), parts["hada_w1_b"].float()
    other_left, other_right = parts["hada_w2_a"].float(), parts["hada_w2_b"].float()
    outputs, inputs = len(left), right.shape[1]
    if len(right) ** 2 > min(outputs, inputs):
        up, down = _factors((left @ right) * (other_left @ other_right))
        return down, up
    down = torch.einsum("ri,si->rsi", right, other_right).reshape(-1, inputs)
    up = torch.einsum("or,os->ors", left, other_left).reshape(outputs, -1)
    return down, up


def _lokr(parts: Parts) -> Pair:
    """kron(P Q, R S) is kron(P, R) kron(Q, S)."""
    left, right = _kronecker_factor(parts, "lokr_w1")
    other_left, other_right = _kronecker_factor(parts, "lokr_w2")
    return torch.kron(right, other_right), torch.kron(left, other_left)


def _kronecker_factor(parts: Parts, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return matrices (rows, rank) and (rank, columns) whose product is the factor."""
    if name in parts:
        return _factors(parts[name].float())
    left, right = parts[f"{name}_a"].float(), parts[f"{name}_b"].float()
    narrow = len(right) <= min(len(left), right.shape[1])
    return (left, right) if narrow else _factors(left @ right)


def _factors(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrix and an identity, whose product it is, meeting at its shorter side."""
    rows, columns = matrix.shape
    if rows <= columns:
        return torch.eye(rows), matrix
    return matrix, torch.eye(columns)


_CONVERSIONS: Mapping[MethodName, Callable[[Parts], Pair]] = {
    "LORA": _lora,
    "ADALORA": _adalora,
    "LOHA": _loha,
    "LOKR": _lokr,
}
