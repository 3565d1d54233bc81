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


async def test_what_an_earlier_process_left_is_verified(blobs: Blobs, tmp_path: Path) -> None:
    blob = await blobs.put_bytes("acme", b"kept")
    path = await BlobCache(blobs, tmp_path / "cache").path("acme", blob.sha256)
    path.write_bytes(b"damaged")
    assert await BlobCache(blobs, tmp_path / "cache").read("acme", blob.sha256) == b"kept"


async def test_a_cached_blob_is_not_lent_to_another_project(blobs: Blobs, tmp_path: Path) -> None:
    blob = await blobs.put_bytes("acme", b"kept")
    cache = BlobCache(blobs, tmp_path / "cache")
    await cache.read("acme", blob.sha256)
    with pytest.raises(DataLoss):
        await cache.read("rival", blob.sha256)


async def test_the_longest_unused_blob_goes_first(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_KEPT", 2)
    cache = BlobCache(blobs, tmp_path / "cache")
    one, two, three = [await blobs.put_bytes("acme", data) for data in (b"1", b"2", b"3")]
    paths = [await cache.path("acme", blob.sha256) for blob in (one, two, one, three)]
    assert [path.exists() for path in paths] == [True, False, True, True]
