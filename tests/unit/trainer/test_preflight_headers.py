"""What is read of a base model's files, and how much of them."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.errors import FailedPrecondition
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_trainer.preflight.headers import Snapshots
from tokenizers import Tokenizer, models

CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
WORDS = Tokenizer(models.WordLevel({"?": 0}, unk_token="?")).to_str().encode()
NAME = "projects/library/baseModels/tiny"
MEGABYTE = 1 << 20


class Counting(DirectoryObjects):
    """A store that counts the bytes that are read of it."""

    read = 0

    async def get(self, key: str) -> AsyncGenerator[bytes, None]:
        async for chunk in super().get(key):
            self.read += len(chunk)
            yield chunk


def tensors(shapes: dict[str, tuple[int, int]], length: int | None = None) -> bytes:
    entries = {name: {"shape": shape, "dtype": "BF16"} for name, shape in shapes.items()}
    header = json.dumps(entries).encode()
    return (length or len(header)).to_bytes(8, "little") + header + bytes(8 * MEGABYTE)


async def stored(store: DirectoryObjects, files: dict[str, bytes]) -> BaseModel:
    blobs = Blobs(store)
    base = BaseModel(name=NAME, digest="d")
    for path, data in files.items():
        blob = await blobs.put_bytes("library", data)
        base.files.append(ModelFile(path=path, sha256=blob.sha256, size_bytes=blob.size))
    return base


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


async def test_of_large_files_only_the_header_is_read_and_that_once(store: Counting) -> None:
    base = await stored(
        store,
        {
            "config.json": CONFIG,
            "tokenizer.json": WORDS,
            "model-1.safetensors": tensors({"model.layers.0.mlp.up_proj.weight": (16, 8)}),
            "model-2.safetensors": tensors({"model.embed_tokens.weight": (100, 8)}),
            "README.md": b"x" * MEGABYTE,
        },
    )
    store.read = 0
    snapshots = Snapshots(Blobs(store))
    found = await snapshots.of(base)
    assert found.inventory.parameters == 16 * 8 + 100 * 8
    assert store.read <= 3 * MEGABYTE
    again, store.read = await snapshots.of(base), 0
    assert again is found
    assert store.read == 0


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"tokenizer.json": WORDS}, "no readable config.json"),
        ({"config.json": b"{", "tokenizer.json": WORDS}, "no readable config.json"),
        ({"config.json": CONFIG}, "no usable tokenizer.json"),
        (
            {"config.json": CONFIG, "tokenizer.json": WORDS, "a.safetensors": tensors({}, 10**12)},
            "no readable header in a.safetensors",
        ),
        (
            {"config.json": CONFIG, "tokenizer.json": WORDS, "a.safetensors": b"\0\0"},
            "no readable header in a.safetensors",
        ),
    ],
)
async def test_a_model_that_cannot_be_read_is_told(
    store: Counting, files: dict[str, bytes], why: str
) -> None:
    with pytest.raises(FailedPrecondition, match=why) as caught:
        await Snapshots(Blobs(store)).of(await stored(store, files))
    assert caught.value.reason == "BASE_MODEL_UNUSABLE"
