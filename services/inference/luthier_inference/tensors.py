"""The header of a safetensors file: names, types and shapes of its tensors, without torch.

https://github.com/huggingface/safetensors#format; what the format leaves to readers is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from luthier_inference import strict_json

_LENGTH_BYTES = 8
HEADER_LIMIT = 100_000_000
"""The most bytes a header may have; the format's own limit."""

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 8),
}
_MOST_SIDES = 8
_LONGEST_SIDE = 2**48


class BadTensors(ValueError):
    """The bytes are not a safetensors file; `reason` is for programs, the message says why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Tensor(NamedTuple):
    """An entry of the header."""

    kind: str
    """The type of its numbers as the format has it, such as `BF16`."""
    shape: tuple[int, ...]
    first: int
    """Where it begins, in bytes behind the header."""
    last: int
    """Where it ends."""


@dataclass(frozen=True)
class Tensors:
    """What a file holds."""

    entries: Mapping[str, Tensor]
    """Every tensor by its name, in the order of their bytes."""

    @property
    def names(self) -> Set[str]:
        """Names of the tensors."""
        return self.entries.keys()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, by its name."""
        return {name: tensor.shape for name, tensor in self.entries.items()}

    @property
    def parameter_count(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.entries.values())


def header_bytes(start: bytes | bytearray, limit: int = HEADER_LIMIT) -> int:
    """Return how many of the file's first bytes make up its header; 8 while that is unknown.

    BadTensors when that cannot be, or when they are more than `limit`.
    """
    if len(start) < _LENGTH_BYTES:
        return _LENGTH_BYTES
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if not 2 <= length <= HEADER_LIMIT or start[_LENGTH_BYTES : _LENGTH_BYTES + 1] not in b"{":
        message = "it does not begin with a safetensors header; pickles and archives are not read"
        raise BadTensors("NOT_SAFETENSORS", message)
    if length > limit:
        message = f"its header has {length} bytes, at most {limit} are read"
        raise BadTensors("HEADER_TOO_LARGE", message)
    return _LENGTH_BYTES + length


def read_header(start: bytes | bytearray, size: int) -> Tensors:
    """Check the header in `start`, the beginning of a file of `size` bytes; BadTensors."""
    end = header_bytes(start)
    if len(start) < end or size < end:
        raise BadTensors("HEADER_TRUNCATED", "it ends within its header")
    try:
        header = strict_json.load(start[_LENGTH_BYTES:end])
    except strict_json.BadJson as error:
        raise BadTensors(f"HEADER_{error.reason}", f"its header {error}") from error
    _check_metadata(header.pop("__metadata__", {}))
    found = {name: _tensor(name, entry) for name, entry in header.items()}
    tensors = dict(sorted(found.items(), key=lambda item: item[1][2:]))
    _check_layout(tensors, size - end)
    return Tensors(tensors)


def _check_metadata(metadata: Any) -> None:
    texts = isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())
    if not texts:
        raise BadTensors("BAD_METADATA", "its __metadata__ is not an object of texts")


def _tensor(name: str, entry: Any) -> Tensor:
    said = f"tensor {name[:100]!r}"
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [first, last], **others} if (
            not others
        ):
            pass
        case _:
            raise BadTensors("BAD_TENSOR_ENTRY", f"the entry of {said} is not valid")
    if kind not in _BITS:
        raise BadTensors("UNKNOWN_DTYPE", f"{said} has the unknown type {kind[:20]!r}")
    # Not isinstance: true and false are numbers to Python.
    if len(shape) > _MOST_SIDES or not all(
        type(side) is int and 0 <= side <= _LONGEST_SIDE for side in shape
    ):
        raise BadTensors("BAD_SHAPE", f"{said} has no valid shape")
    if type(first) is not int or type(last) is not int or not 0 <= first <= last:
        raise BadTensors("BAD_OFFSETS", f"{said} has no valid data_offsets")
    if (last - first) * 8 != math.prod(shape) * _BITS[kind]:
        message = f"{said} has {last - first} bytes, which its shape and type do not need"
        raise BadTensors("TENSOR_SIZE_MISMATCH", message)
    return Tensor(kind, tuple(shape), first, last)


def _check_layout(tensors: Mapping[str, Tensor], size: int) -> None:
    """The tensors must follow each other without a gap, and fill the `size` bytes."""
    position = 0
    for name, tensor in tensors.items():
        if tensor.first < position:
            raise BadTensors("TENSORS_OVERLAP", f"tensor {name[:100]!r} overlaps another")
        if tensor.first > position:
            raise BadTensors("TENSORS_GAPPED", f"there is a gap before tensor {name[:100]!r}")
        position = tensor.last
    if position != size:
        reason = "TENSORS_TRUNCATED" if position > size else "TRAILING_BYTES"
        message = f"its header describes {position} bytes of tensors, it has {size}"
        raise BadTensors(reason, message)
