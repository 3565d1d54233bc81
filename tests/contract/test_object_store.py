"""What every ObjectStore promises, on a directory and on S3."""

import asyncio
import errno
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx2
import pytest
from luthier_common.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.objects.open import open_object_store
from luthier_common.objects.port import ObjectInfo, ObjectStore, read_all

from tests.support.s3_server import S3Server, s3_server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return await open_object_store((tmp_path / "objects").as_uri())
    return await open_s3(request.getfixturevalue("s3"))


async def open_s3(server: S3Server, *, secret: str | None = None) -> ObjectStore:
    return await open_object_store(
        server.url(f"luthier-{secrets.token_hex(6)}"),
        access_key=server.access_key,
        secret_key=secret or server.secret_key,
    )


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def keys(store: ObjectStore, prefix: str) -> list[str]:
    return [item.key async for item in store.list(prefix)]


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00\n" * 2_000_000], ids=["0", "5", "4M"])
async def test_bytes_come_back(store: ObjectStore, data: bytes) -> None:
    assert await store.put("a/b.bin", data) == ObjectInfo("a/b.bin", len(data))
    assert await read_all(store, "a/b.bin") == data
    assert await store.stat("a/b.bin") == ObjectInfo("a/b.bin", len(data))


async def test_a_stream_of_unknown_length_comes_back(store: ObjectStore) -> None:
    parts = [secrets.token_bytes(3_000_000) for _ in range(7)]
    assert (await store.put("big", chunks(*parts, b"", b"end"))).size == 21_000_003
    assert await read_all(store, "big") == b"".join(parts) + b"end"


async def test_an_empty_stream_is_an_empty_object(store: ObjectStore) -> None:
    await store.put("empty", chunks())
    assert await read_all(store, "empty") == b""


@pytest.mark.parametrize(
    "failure",
    [
        InvalidArgument("no more", reason="BROKEN"),
        FileNotFoundError(errno.ENOENT, "no more", "the source"),  # of the source, not the object
    ],
    ids=["ours", "system"],
)
async def test_a_stream_that_fails_leaves_nothing_and_its_own_error(
    store: ObjectStore, failure: Exception
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise failure

    with pytest.raises(type(failure), match="no more"):
        await store.put("broken", broken())
    assert await keys(store, "") == []


async def test_a_cancelled_upload_leaves_nothing(store: ObjectStore) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            begun.set()
            await asyncio.sleep(0.01)

    upload = asyncio.create_task(store.put("endless", endless()))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await keys(store, "") == []


async def test_a_put_replaces(store: ObjectStore) -> None:
    await store.put("a", b"first and longer")
    await store.put("a", b"second")
    assert await read_all(store, "a") == b"second"


async def test_an_absent_key_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        await store.stat("absent/key")
    with pytest.raises(NotFound):
        await read_all(store, "absent/key")


async def test_a_folder_is_no_object(store: ObjectStore) -> None:
    await store.put("a/b", b"1")
    with pytest.raises(NotFound):
        await store.stat("a")
    with pytest.raises(NotFound):
        await read_all(store, "a")


async def test_a_list_has_the_prefix_and_the_order(store: ObjectStore) -> None:
    for key in ["b/1", "a/2", "a/1", "a/10", "ab/1", "a-b/1"]:
        await store.put(key, b"123")
    assert await keys(store, "a/") == ["a/1", "a/10", "a/2"]
    assert await keys(store, "a/1") == ["a/1", "a/10"]
    assert await keys(store, "a") == sorted(["a/1", "a/10", "a/2", "ab/1", "a-b/1"])
    assert len(await keys(store, "")) == 6
    assert await keys(store, "none/at/all") == []
    assert [item.size async for item in store.list("b/")] == [3]


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(store: ObjectStore) -> None:
    await store.put("a/b", b"1")
    await store.delete("a/b")
    await store.delete("a/b")
    assert await keys(store, "") == []


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".hidden", "a\\b", "ä", "a" * 2000]
)
async def test_a_bad_key_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidArgument):
        await store.put(key, b"1")
    with pytest.raises(InvalidArgument):
        await read_all(store, key)
    with pytest.raises(InvalidArgument):
        await store.delete(key)


async def test_concurrent_puts_leave_one_whole_object(store: ObjectStore) -> None:
    values = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(store.put("contended", value) for value in values))
    assert await read_all(store, "contended") in values


async def test_a_wrong_secret_is_named_clearly(s3: S3Server) -> None:
    with pytest.raises(FailedPrecondition, match="refuses our access key or secret") as caught:
        await open_s3(s3, secret="wrong")
    assert caught.value.reason == "OBJECTS_REFUSED"


async def test_a_directory_has_no_presigned_urls(tmp_path: Path) -> None:
    store = await open_object_store((tmp_path / "objects").as_uri())
    with pytest.raises(FailedPrecondition, match="upload in parts") as caught:
        store.presign_put("a/b", timedelta(hours=1))
    assert caught.value.reason == "DIRECT_UPLOAD_UNSUPPORTED"


async def test_whoever_has_a_presigned_url_can_put_the_object(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with s3_server(tmp_path_factory.mktemp("presigned"), presigned=True) as server:
        store = await open_s3(server)
        url = store.presign_put("a/b", timedelta(hours=1))
        async with httpx2.AsyncClient() as http:
            assert (await http.put(url, content=b"from outside")).status_code == 200
        assert await read_all(store, "a/b") == b"from outside"
        assert await keys(store, "") == ["a/b"]
        with pytest.raises(InvalidArgument):
            store.presign_put("../b", timedelta(hours=1))


async def test_a_presigned_url_is_signed_for_the_public_address(s3: S3Server) -> None:
    bucket = f"luthier-{secrets.token_hex(6)}"
    store = await open_object_store(
        s3.url(bucket),
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        public_url="https://objects.example.com:9443",
    )
    url = store.presign_put("a/b", timedelta(minutes=5))
    target, _, query = url.partition("?")
    assert target == f"https://objects.example.com:9443/{bucket}/a/b"
    given = {name: values[0] for name, values in parse_qs(query).items()}
    assert (given["X-Amz-Expires"], given["X-Amz-SignedHeaders"]) == ("300", "host")

    # boto3, asked for the same at the same time, signs the same.
    moment = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    client = boto3.client(
        "s3",
        endpoint_url="https://objects.example.com:9443",
        region_name="us-east-1",
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        config=boto3.session.Config(signature_version="s3v4"),
    )
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        again = client.generate_presigned_url(
            "put_object", Params={"Bucket": bucket, "Key": "a/b"}, ExpiresIn=300
        )
    assert parse_qs(urlsplit(again).query)["X-Amz-Signature"] == [given["X-Amz-Signature"]]


@pytest.mark.parametrize("url", ["objects.example.com", "s3://host", "https://host/path", "https:"])
async def test_another_public_address_is_refused(s3: S3Server, url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await open_object_store(s3.url("luthier-public"), public_url=url)
    assert caught.value.field == "objects_public_url"


async def test_opening_the_same_bucket_twice_keeps_it(s3: S3Server) -> None:
    url = s3.url(f"luthier-{secrets.token_hex(6)}")
    first, second = [
        await open_object_store(url, access_key=s3.access_key, secret_key=s3.secret_key)
        for _ in range(2)
    ]
    await first.put("a", b"1")
    assert await read_all(second, "a") == b"1"


async def test_a_store_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await open_object_store("s3+http://127.0.0.1:1/bucket", access_key="a", secret_key="b" * 8)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/folder",
        "file:relative",
        "file:///",
        "s3+http://host",
        "http://host/b",
        "s3+http://h/b/c",
    ],
)
async def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument):
        await open_object_store(url)


async def test_a_directory_with_an_absolute_root_holds_it_all(tmp_path: Path) -> None:
    store = DirectoryObjects(tmp_path / "deep" / "er")
    await store.put("a/b", b"1")
    with pytest.raises(InvalidArgument):
        await keys(store, "../../")
