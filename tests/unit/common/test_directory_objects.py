"""What only a directory can show: damage on disk and crashes half-way."""

from pathlib import Path

import pytest
from luthier_common.errors import DataLoss
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.objects.port import read_all


async def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    store = DirectoryObjects(tmp_path)
    await store.put("a/object", b"some bytes")
    path = tmp_path / "a" / "object"
    intact = path.read_bytes()
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DataLoss):
            await read_all(store, "a/object")
    path.write_bytes(intact)
    assert await read_all(store, "a/object") == b"some bytes"


async def test_every_truncation_is_found(tmp_path: Path) -> None:
    store = DirectoryObjects(tmp_path)
    await store.put("object", b"some bytes")
    intact = (tmp_path / "object").read_bytes()
    for length in range(len(intact)):
        (tmp_path / "object").write_bytes(intact[:length])
        with pytest.raises(DataLoss):
            await read_all(store, "object")


async def test_what_a_crash_left_behind_is_invisible(tmp_path: Path) -> None:
    store = DirectoryObjects(tmp_path)
    await store.put("a/whole", b"1")
    unfinished = tmp_path / ".unfinished"
    assert list(unfinished.iterdir()) == []
    (unfinished / "torn").write_bytes(b"half of an obj")
    assert [item.key async for item in store.list("")] == ["a/whole"]
