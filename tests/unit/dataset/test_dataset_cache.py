import asyncio
from pathlib import Path

import pytest
from luthier_common.errors import DataLoss
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_dataset import cache as cache_module
from luthier_dataset.cache import BlobCache


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(DirectoryObjects(tmp_path / "objects"))


async def test_a_blob_is_fetched_once(blobs: Blobs, tmp_path: Path) -> None:
    blob = await blobs.put_bytes("acme", b"kept")
    cache = BlobCache(blobs, tmp_path / "cache")
    assert await cache.read("acme", blob.sha256) == b"kept"
    await blobs.delete("acme", blob.sha256)
    assert await cache.read("acme", blob.sha256) == b"kept"


async def test_what_an_earlier_process_left_is_gone(blobs: Blobs, tmp_path: Path) -> None:
    blob = await blobs.put_bytes("acme", b"kept")
    other = await blobs.put_bytes("acme", b"no longer asked for")
    earlier = BlobCache(blobs, tmp_path / "cache")
    unasked = await earlier.path("acme", other.sha256)
    path = await earlier.path("acme", blob.sha256)
    path.write_bytes(b"damaged")
    cache = BlobCache(blobs, tmp_path / "cache")
    assert await cache.read("acme", blob.sha256) == b"kept"
    assert not unasked.exists()


async def test_a_cached_blob_is_not_lent_to_another_project(blobs: Blobs, tmp_path: Path) -> None:
    blob = await blobs.put_bytes("acme", b"kept")
    cache = BlobCache(blobs, tmp_path / "cache")
    await cache.read("acme", blob.sha256)
    with pytest.raises(DataLoss):
        await cache.read("rival", blob.sha256)


async def test_the_longest_unused_blob_goes_first(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_KEPT_FILES", 2)
    cache = BlobCache(blobs, tmp_path / "cache")
    one, two, three = [await blobs.put_bytes("acme", data) for data in (b"1", b"2", b"3")]
    paths = [await cache.path("acme", blob.sha256) for blob in (one, two, one, three)]
    assert [path.exists() for path in paths] == [True, False, True, True]


async def test_no_more_bytes_are_kept_than_there_is_room_for(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_KEPT_BYTES", 10)
    cache = BlobCache(blobs, tmp_path / "cache")
    made = [await blobs.put_bytes("acme", data) for data in (b"1234", b"123456", b"1", b"12345")]
    one, two, three, four = [await cache.path("acme", blob.sha256) for blob in made]
    assert [path.exists() for path in (one, two, three, four)] == [False, False, True, True]
    large = await cache.path("acme", (await blobs.put_bytes("acme", b"x" * 20)).sha256)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [large.name]


class SlowBlobs(Blobs):
    """Fetches wait until they are let go."""

    def __init__(self, store: DirectoryObjects) -> None:
        super().__init__(store)
        self.slow: set[str] = set()
        self.let_go = asyncio.Event()
        self.fetched: list[str] = []

    async def fetch_to(self, project: str, sha256: str, path: Path) -> None:
        self.fetched.append(sha256)
        if sha256 in self.slow:
            await self.let_go.wait()
        await super().fetch_to(project, sha256, path)


@pytest.fixture
def slow(tmp_path: Path) -> SlowBlobs:
    return SlowBlobs(DirectoryObjects(tmp_path / "objects"))


async def test_a_long_fetch_keeps_nobody_else_waiting(slow: SlowBlobs, tmp_path: Path) -> None:
    large, small = [await slow.put_bytes("acme", data) for data in (b"large", b"small")]
    slow.slow.add(large.sha256)
    cache = BlobCache(slow, tmp_path / "cache")
    first, second = [asyncio.create_task(cache.read("acme", large.sha256)) for _ in range(2)]
    while not slow.fetched:
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await cache.read("acme", small.sha256) == b"small"
    assert not first.done()
    slow.let_go.set()
    assert [await first, await second] == [b"large", b"large"]
    assert slow.fetched.count(large.sha256) == 1


async def test_a_fetch_goes_on_when_its_caller_is_gone(slow: SlowBlobs, tmp_path: Path) -> None:
    blob = await slow.put_bytes("acme", b"large")
    slow.slow.add(blob.sha256)
    cache = BlobCache(slow, tmp_path / "cache")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await cache.path("acme", blob.sha256)
    slow.let_go.set()
    assert await cache.read("acme", blob.sha256) == b"large"
    assert len(slow.fetched) == 1


async def test_a_failed_fetch_is_tried_again(blobs: Blobs, tmp_path: Path) -> None:
    blob = await blobs.put_bytes("acme", b"kept")
    await blobs.delete("acme", blob.sha256)
    cache = BlobCache(blobs, tmp_path / "cache")
    with pytest.raises(DataLoss):
        await cache.path("acme", blob.sha256)
    await blobs.put_bytes("acme", b"kept")
    assert await cache.read("acme", blob.sha256) == b"kept"
