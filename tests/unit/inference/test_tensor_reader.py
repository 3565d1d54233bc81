"""Numbers of safetensors files, looked at piece by piece."""

import json
import random
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from luthier_inference.tensor_reader import TensorReader
from luthier_inference.tensors import BadTensors, read_header

from tests.support.safetensors_files import (
    Part,
    matrices,
    numbers,
    read_tensors,
    tensor_file,
    with_length,
)


def fed(data: bytes, sizes: list[int], *, finite: bool = True) -> TensorReader:
    """Return a reader that got the data in pieces of these sizes, over and over."""
    reader, at, turn = TensorReader(len(data), finite=finite), 0, 0
    while at < len(data):
        step = sizes[turn % len(sizes)]
        reader.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    return reader


def mixed() -> dict[str, Part]:
    """Return tensors of all types, so that numbers begin anywhere."""
    return {
        "half": Part((3,), "F16", numbers(3, 1, "F16")),
        "none": Part((0, 4)),
        "wide": Part((2, 5), "F32", numbers(10, 2)),
        "brain": Part((7,), "BF16", numbers(7, 3, "BF16")),
        "again": Part((1, 4), "F32", numbers(4, 4)),
    }


@pytest.mark.parametrize("sizes", [[1], [2, 3], [7], [64, 1], [1 << 20]])
def test_pieces_of_any_size_are_the_same_file(sizes: list[int]) -> None:
    data = tensor_file(mixed(), {"format": "pt"})
    assert fed(data, sizes).result() == read_header(data, len(data)) == read_tensors(data)


@pytest.mark.parametrize("seed", range(40))
def test_one_wrong_number_is_found_wherever_it_is(seed: int) -> None:
    rng = random.Random(seed)
    parts = mixed()
    name = rng.choice([name for name, part in parts.items() if part.data])
    part = parts[name]
    wide = part.kind == "F32"
    values = {"F32": (0x7F800000, 0xFFFFFFFF), "F16": (0x7C00, 0xFE00), "BF16": (0xFF80, 0x7F81)}
    bits = struct.pack("<I" if wide else "<H", rng.choice(values[part.kind]))
    at = rng.randrange(len(part.data) // len(bits)) * len(bits)
    part.data = part.data[:at] + bits + part.data[at + len(bits) :]
    reader = fed(tensor_file(parts), [rng.randint(1, 30) for _ in range(5)])
    with pytest.raises(BadTensors, match=f"'{name}' holds NaN or infinity") as caught:
        reader.result()
    assert caught.value.reason == "NOT_FINITE"


def test_the_largest_numbers_are_finite() -> None:
    largest = {
        "F32": struct.pack("<2I", 0x7F7FFFFF, 0xFF7FFFFF),
        "F16": struct.pack("<2H", 0x7BFF, 0xFBFF),
        "BF16": struct.pack("<2H", 0x7F7F, 0xFF7F),
    }
    parts = {kind: Part((2,), kind, data) for kind, data in largest.items()}
    assert read_tensors(tensor_file(parts)).names == largest.keys()


def test_it_agrees_with_numpy_and_safetensors() -> None:
    rng = np.random.default_rng(0)
    for kind in ("f4", "f2") * 10:
        values = rng.standard_normal((5, 9)).astype(kind)
        if finite := bool(rng.integers(2)):
            values.flat[rng.integers(45)] = 0
        else:
            values.flat[rng.integers(45)] = rng.choice([np.nan, np.inf, -np.inf])
        data = safetensors.numpy.save({"x": values})
        if finite:
            assert read_tensors(data).shapes == {"x": (5, 9)}
        else:
            with pytest.raises(BadTensors):
                read_tensors(data)


def test_base_models_are_read_no_further_than_their_header() -> None:
    data = tensor_file({"ids": Part((4,), "I64")})
    reader = TensorReader(len(data))
    reader.feed(data[:50])
    assert not reader.done
    reader.feed(data[50:])
    assert reader.done
    assert reader.result().shapes == {"ids": (4,)}
    with pytest.raises(BadTensors, match="type I64; save it as F32, F16, BF16"):
        fed(data, [10]).result()


def test_errors_wait_until_the_end() -> None:
    reader = TensorReader(100, finite=True)
    reader.feed(b"\x80\x04 a pickle, or bytes damaged on their way")
    assert reader.done
    reader.feed(b"more")
    with pytest.raises(BadTensors) as caught:
        reader.result()
    assert caught.value.reason == "NOT_SAFETENSORS"


def test_memory_is_bounded_by_the_piece() -> None:
    piece = bytes(1 << 20)
    entry = {"dtype": "F32", "shape": [64 << 18], "data_offsets": [0, 64 << 20]}
    start = with_length(json.dumps({"x": entry}).encode())
    reader = TensorReader(len(start) + 64 * len(piece), finite=True)
    tracemalloc.start()
    reader.feed(start)
    for _ in range(64):
        reader.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.result().parameter_count == 64 << 18
    assert peak < 12 << 20


def test_peft_matrices_are_taken_whole() -> None:
    for kind in ("F32", "F16", "BF16"):
        parts = matrices(kind)
        assert read_tensors(tensor_file(parts)).names == parts.keys()
