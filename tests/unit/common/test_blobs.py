"""Content-addressed blobs: what a digest names, or an error."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from luthier_common.errors import DataLoss, InvalidArgument
from luthier_common.objects.blobs import Blob, Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.objects.port import ObjectInfo

DATA = b"the quick brown fox" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


class CountingObjects(DirectoryObjects):
    """Counts the writes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts = 0

    async def put(self, key: str, data: bytes | object) -> ObjectInfo:
        self.puts += 1
        return await super().put(key, data)  # type: ignore[arg-type]


@pytest.fixture
def objects(tmp_path: Path) -> CountingObjects:
    return CountingObjects(tmp_path / "objects")


async def pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(DATA), 777):
        yield DATA[start : start + 777]


async def test_three_ways_in_one_blob(objects: CountingObjects, tmp_path: Path) -> None:
    blobs = Blobs(objects)
    (tmp_path / "file").write_bytes(DATA)
    expected = Blob(DIGEST, len(DATA))
    assert await blobs.put_bytes("acme", DATA) == expected
    assert await blobs.put_file("acme", tmp_path / "file") == expected
    assert await blobs.put_stream("acme", pieces()) == expected
    assert objects.puts == 1
    assert await blobs.read("acme", DIGEST) == DATA


async def test_projects_do_not_share(objects: CountingObjects) -> None:
    blobs = Blobs(objects)
    await blobs.put_bytes("acme", DATA)
    assert not await blobs.exists("other", DIGEST)
    with pytest.raises(DataLoss):
        await blobs.read("other", DIGEST)


async def test_a_damaged_blob_is_never_read_and_mended_by_the_next_put(
    objects: CountingObjects, tmp_path: Path
) -> None:
    blobs = Blobs(objects)
    await blobs.put_bytes("acme", DATA)
    # Whole as an object, but other bytes than the digest names.
    await objects.put(f"blobs/acme/sha256/{DIGEST}", DATA[:-1] + b"!")
    with pytest.raises(DataLoss):
        await blobs.read("acme", DIGEST)
    target = tmp_path / "target"
    with pytest.raises(DataLoss):
        await blobs.fetch_to("acme", DIGEST, target)
    assert list(tmp_path.glob("*target*")) == []
    await blobs.put_bytes("acme", DATA)
    await blobs.fetch_to("acme", DIGEST, target)
    assert target.read_bytes() == DATA


async def test_a_write_that_stored_other_bytes_is_found(tmp_path: Path) -> None:
    class Damaging(DirectoryObjects):
        async def put(self, key: str, data: bytes | object) -> ObjectInfo:
            return await super().put(key, b"something else")

    with pytest.raises(DataLoss):
        await Blobs(Damaging(tmp_path)).put_bytes("acme", DATA)


async def test_limits_are_kept(objects: CountingObjects) -> None:
    blobs = Blobs(objects)
    with pytest.raises(InvalidArgument) as caught:
        await blobs.put_stream("acme", pieces(), max_bytes=len(DATA) - 1)
    assert caught.value.reason == "BLOB_TOO_LARGE"
    assert objects.puts == 0
    await blobs.put_stream("acme", pieces(), max_bytes=len(DATA))
    with pytest.raises(InvalidArgument):
        await blobs.read("acme", DIGEST, max_bytes=len(DATA) - 1)


@pytest.mark.parametrize(
    ("project", "digest"), [("../up", DIGEST), ("acme", "../../x"), ("acme", DIGEST.upper())]
)
async def test_names_from_outside_reach_no_other_key(
    objects: CountingObjects, project: str, digest: str
) -> None:
    with pytest.raises(InvalidArgument):
        await Blobs(objects).read(project, digest)


async def test_a_deleted_blob_is_gone(objects: CountingObjects) -> None:
    blobs = Blobs(objects)
    await blobs.put_bytes("acme", DATA)
    await blobs.delete("acme", DIGEST)
    await blobs.delete("acme", DIGEST)
    assert not await blobs.exists("acme", DIGEST)
