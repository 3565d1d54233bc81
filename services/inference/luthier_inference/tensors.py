"""The header of a safetensors file: names and shapes of its tensors, read without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

_LENGTH_BYTES = 8
HEADER_LIMIT = 100_000_000
"""The most bytes a header may have; the format's own limit."""

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 8),
}


class BadTensors(ValueError):
    """The bytes are not a safetensors file; the message says why."""


@dataclass(frozen=True)
class Tensors:
    """What a file holds."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor, by its name."""

    @property
    def names(self) -> Set[str]:
        """Names of the tensors."""
        return self.shapes.keys()

    @property
    def parameter_count(self) -> int:
        """Numbers in all tensors."""
        return sum(map(math.prod, self.shapes.values()))


def header_bytes(start: bytes | bytearray) -> int:
    """Return how many of the file's first bytes make up its header; 8 while that is unknown."""
    if len(start) < _LENGTH_BYTES:
        return _LENGTH_BYTES
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if not 2 <= length <= HEADER_LIMIT:
        raise BadTensors("it does not begin with a safetensors header")
    return _LENGTH_BYTES + length


def read_header(start: bytes, size: int) -> Tensors:
    """Check the header in `start`, the beginning of a file of `size` bytes; BadTensors."""
    end = header_bytes(start)
    if len(start) < end or size < end:
        raise BadTensors("it ends within its header")
    try:
        header = json.loads(start[_LENGTH_BYTES:end])
    except (ValueError, RecursionError) as error:
        raise BadTensors("its header is not JSON") from error
    if not isinstance(header, dict):
        raise BadTensors("its header is not a JSON object")
    header.pop("__metadata__", None)
    spans = sorted(_span(name, entry) for name, entry in header.items())
    position = 0
    for first, last in spans:
        if first != position:
            raise BadTensors("its tensors overlap or leave gaps")
        position = last
    if end + position != size:
        raise BadTensors(f"its header describes {end + position} bytes, it has {size}")
    return Tensors({name: tuple(entry["shape"]) for name, entry in header.items()})


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Return where a tensor begins and ends."""
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            if kind in _BITS and all(isinstance(side, int) and side >= 0 for side in shape):
                count = math.prod(shape)
                if 0 <= first <= last and (last - first) * 8 == count * _BITS[kind]:
                    return first, last
    raise BadTensors(f"the entry of tensor {name[:100]!r} is not valid")
