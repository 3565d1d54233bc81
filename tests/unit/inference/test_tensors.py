import json
import struct
from pathlib import Path

import pytest
from luthier_inference.tensors import BadTensors, header_bytes, read_header

from tests.support.safetensors_files import with_length

STARTER = Path(__file__).parents[3] / "models" / "starter" / "model.safetensors"


def file(header: object, body: bytes = b"") -> bytes:
    return with_length(header if isinstance(header, bytes) else json.dumps(header).encode(), body)


def tensor(first: int, last: int, shape: list[int], kind: str = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [first, last]}


def test_the_starter_models_header_agrees_with_safetensors() -> None:
    import safetensors

    data = STARTER.read_bytes()
    found = read_header(data[: header_bytes(data)], len(data))
    with safetensors.safe_open(STARTER, "np") as opened:
        shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    assert found.names == shapes.keys()
    count = 0
    for shape in shapes.values():
        size = 1
        for side in shape:
            size *= side
        count += size
    assert found.parameter_count == count > 1_000_000


def test_scalars_and_empty_tensors_count() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "scalar": tensor(0, 4, []),
        "empty": tensor(4, 4, [0, 7]),
    }
    data = file(header, bytes(4))
    assert read_header(data, len(data)).parameter_count == 1


def test_tensors_come_in_the_order_of_their_bytes() -> None:
    header = {"b": tensor(4, 8, [1]), "a": tensor(0, 4, [1]), "none": tensor(4, 4, [0])}
    found = read_header(file(header, bytes(8)), len(file(header, bytes(8))))
    assert list(found.names) == ["a", "none", "b"]
    assert found.shapes == {"a": (1,), "none": (0,), "b": (1,)}


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "HEADER_TRUNCATED", "within its header"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x01}", "NOT_SAFETENSORS", "does not begin"),
        (struct.pack("<Q", 2**63), "NOT_SAFETENSORS", "does not begin"),
        (file([1]), "NOT_SAFETENSORS", "does not begin"),
        (struct.pack("<Q", 50) + b"{}", "HEADER_TRUNCATED", "within its header"),
        (file(b"{not json"), "HEADER_NOT_JSON", "its header is not JSON"),
        (file(b'{"a":' + b"[" * 100_000), "HEADER_TOO_DEEP", "nests too deeply"),
        (file(b'{"a":1,"a":2}'), "HEADER_DUPLICATE_KEY", "has a key twice"),
        (file(b'{"a":NaN}'), "HEADER_NOT_JSON", "has a NaN"),
        (file(b'{"\xff":1}'), "HEADER_NOT_UTF8", "is not UTF-8"),
        (file({"__metadata__": {"a": 1}}), "BAD_METADATA", "not an object of texts"),
        (file({"a": 1}), "BAD_TENSOR_ENTRY", "the entry of tensor 'a' is not valid"),
        (file({"a": tensor(0, 8, [1])}, bytes(8)), "TENSOR_SIZE_MISMATCH", "has 8 bytes"),
        (file({"a": tensor(0, 4, [-1, -1])}, bytes(4)), "BAD_SHAPE", "no valid shape"),
        (file({"a": tensor(0, 4, [True])}, bytes(4)), "BAD_SHAPE", "no valid shape"),
        (file({"a": tensor(4, 0, [1])}, bytes(4)), "BAD_OFFSETS", "no valid data_offsets"),
        (file({"a": tensor(0, 4, [1], "PICKLE")}, bytes(4)), "UNKNOWN_DTYPE", "'PICKLE'"),
        (file({"a": tensor(4, 8, [1])}, bytes(8)), "TENSORS_GAPPED", "gap before tensor 'a'"),
        (
            file({"a": tensor(0, 4, [1]), "b": tensor(0, 4, [1])}, bytes(4)),
            "TENSORS_OVERLAP",
            "'b' overlaps",
        ),
        (
            file({"a": tensor(0, 4, [1])}, bytes(5)),
            "TRAILING_BYTES",
            "4 bytes of tensors, it has 5",
        ),
        (file({"a": tensor(0, 4, [1])}, bytes(3)), "TENSORS_TRUNCATED", "it has 3"),
    ],
)
def test_what_is_not_safetensors_is_told(data: bytes, reason: str, says: str) -> None:
    with pytest.raises(BadTensors, match=says) as caught:
        read_header(data, len(data))
    assert caught.value.reason == reason


def test_a_header_longer_than_wanted_is_told_from_its_first_bytes() -> None:
    start = struct.pack("<Q", 1000) + b"{"
    assert header_bytes(start, 1000) == 1008
    with pytest.raises(BadTensors) as caught:
        header_bytes(start, 999)
    assert caught.value.reason == "HEADER_TOO_LARGE"
