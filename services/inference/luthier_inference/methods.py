"""The methods of peft that are served as LoRA: what they save of a layer, and the rank it has.

What each adds to a weight (outputs, inputs) is exactly a product B (outputs, rank) @ A (rank,
inputs), which `engine.conversion` computes; all are multiplied by the adapter's scale.

- LoRA (Hu et al. 2021): B A.
- AdaLoRA (Zhang et al. 2023): B diag(E) A. Each layer has the rank that pruning has left.
- LoHa (Hyeon-Woo et al. 2022, FedPara): (W1a W1b) * (W2a W2b), number by number. Rows of A, and
  columns of B, are the products of a row, or column, of each: r^2.
- LoKr (Yeh et al. 2023, LyCORIS): the Kronecker product of W1 and W2, each whole or a product. Its
  rank is that of W1 times that of W2.

Where a matrix's shorter side is less than the rank, the matrix itself and an identity are A and B.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from luthier_inference.lora_config import MethodName

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]
"""Of a layer's tensors, by the ends of their names."""

_NAME = re.compile(
    r"base_model\.model\.([A-Za-z0-9_.]{1,300})\.(lora|hada|lokr)_([A-Za-z0-9_.]{1,20})"
)


class Misfit(ValueError):
    """Tensors do not go together; `reason` is for programs, the message says what is wrong."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Sizes(NamedTuple):
    """What the tensors of a layer come to, in numbers."""

    inputs: int
    outputs: int
    rank: int
    """As LoRA; it may be 0."""


@dataclass(frozen=True)
class Method:
    """A method."""

    title: str
    parts: frozenset[str]
    """Ends of the names of a layer's tensors."""
    sizes: Callable[[Shapes, int], Sizes]
    """Tells what tensors of a configured rank come to; Misfit."""
    advice: str
    """How it is tuned to a lower rank."""

    def by_layer(self, tensors: Mapping[str, T]) -> dict[str, dict[str, T]]:
        """Return what belongs to each layer, by the ends of the names; Misfit for other names."""
        layers: dict[str, dict[str, T]] = {}
        for name, tensor in tensors.items():
            found = _NAME.fullmatch(name)
            part = f"{found[2]}_{found[3]}" if found else ""
            if found is None or part not in self.parts:
                message = f"more than {self.title} matrices of linear layers: {name[:100]!r}"
                raise Misfit("UNSUPPORTED_TENSOR", message)
            layers.setdefault(found[1], {})[part] = tensor
        return layers


def _lora(shapes: Shapes, rank: int) -> Sizes:
    outputs, inputs = _product(shapes, "lora_B.weight", "lora_A.weight", rank)
    return Sizes(inputs, outputs, rank)


def _adalora(shapes: Shapes, rank: int) -> Sizes:
    outputs, inputs = _product(shapes, "lora_B", "lora_A", rank)
    if (values := _sides(shapes, "lora_E")) != (rank, 1):
        raise Misfit("RANK_MISMATCH", f"lora_E of {values[0]} by {values[1]}, not {rank} by 1")
    return Sizes(inputs, outputs, rank)


def _loha(shapes: Shapes, rank: int) -> Sizes:
    first = _product(shapes, "hada_w1_a", "hada_w1_b", rank)
    second = _product(shapes, "hada_w2_a", "hada_w2_b", rank)
    if first != second:
        raise Misfit("SHAPE_MISMATCH", f"products of different sizes, {first} and {second}")
    outputs, inputs = first
    return Sizes(inputs, outputs, min(rank * rank, outputs, inputs))


def _lokr(shapes: Shapes, rank: int) -> Sizes:
    rows, columns, first = _factor(shapes, "lokr_w1", rank)
    more_rows, more_columns, second = _factor(shapes, "lokr_w2", rank)
    return Sizes(columns * more_columns, rows * more_rows, first * second)


def _factor(shapes: Shapes, name: str, rank: int) -> tuple[int, int, int]:
    """Return a Kronecker factor's sides and rank; it is saved whole or as two matrices."""
    left, right = f"{name}_a", f"{name}_b"
    if name not in shapes:
        rows, columns = _product(shapes, left, right, rank)
        return rows, columns, min(rank, rows, columns)
    if shapes.keys() & {left, right}:
        raise Misfit("SURPLUS_MATRIX", f"{name} both whole and as a product")
    rows, columns = _sides(shapes, name)
    return rows, columns, min(rows, columns)


def _product(shapes: Shapes, left: str, right: str, rank: int) -> tuple[int, int]:
    """Return the sides of left (rows, rank) @ right (rank, columns); Misfit."""
    (rows, inner), (outer, columns) = _sides(shapes, left), _sides(shapes, right)
    if (outer, inner) != (rank, rank):
        message = f"matrices of rank {outer} and {inner}, its configured rank is {rank}"
        raise Misfit("RANK_MISMATCH", message)
    return rows, columns


def _sides(shapes: Shapes, name: str) -> tuple[int, int]:
    if name not in shapes:
        raise Misfit("UNPAIRED_MATRIX", f"no {name}, which belongs to its others")
    sides = shapes[name]
    if len(sides) != 2:
        raise Misfit("SHAPE_MISMATCH", f"{name} of {len(sides)} dimensions, not 2")
    return sides[0], sides[1]


METHODS: Mapping[MethodName, Method] = {
    "LORA": Method("LoRA", frozenset({"lora_A.weight", "lora_B.weight"}), _lora, "a smaller r"),
    "ADALORA": Method(
        "AdaLoRA", frozenset({"lora_A", "lora_B", "lora_E"}), _adalora, "a smaller init_r"
    ),
    "LOHA": Method(
        "LoHa",
        frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),
        _loha,
        "r of at most 32",
    ),
    "LOKR": Method(
        "LoKr",
        frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"}),
        _lokr,
        "a smaller r, or a decompose_factor such as 8",
    ),
}
"""By peft's name of the method."""
