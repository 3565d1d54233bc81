import json
import struct
from pathlib import Path

import pytest
from luthier_inference.tensors import BadTensors, header_bytes, read_header

STARTER = Path(__file__).parents[3] / "models" / "starter" / "model.safetensors"


def file(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + body


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


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "within its header"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x01}", "does not begin"),
        (struct.pack("<Q", 2**63), "does not begin"),
        (struct.pack("<Q", 50) + b"{}", "within its header"),
        (file(b"not json"), "not JSON"),
        (file(b"[" * 100_000), "not JSON"),
        (file([1]), "not a JSON object"),
        (file({"a": 1}), "not valid"),
        (file({"a": tensor(0, 8, [1])}, bytes(8)), "not valid"),
        (file({"a": tensor(0, 4, [-1, -1])}, bytes(4)), "not valid"),
        (file({"a": tensor(0, 4, [1], "PICKLE")}, bytes(4)), "not valid"),
        (file({"a": tensor(4, 8, [1])}, bytes(8)), "overlap or leave gaps"),
        (file({"a": tensor(0, 4, [1]), "b": tensor(0, 4, [1])}, bytes(4)), "overlap"),
        (file({"a": tensor(0, 4, [1])}, bytes(5)), "it has"),
    ],
)
def test_what_is_not_safetensors_is_told(data: bytes, says: str) -> None:
    with pytest.raises(BadTensors, match=says):
        read_header(data, len(data))
