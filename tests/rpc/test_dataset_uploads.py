"""Uploads in parts and straight at the object store, through a running service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from luthier.dataset.v1.events_pb2 import UploadChanged
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import GetFileRequest
from luthier.dataset.v1.upload_pb2 import Upload, UploadPart
from luthier.dataset.v1.upload_service_pb2 import (
    AddUploadPartRequest,
    CancelUploadRequest,
    CreateUploadRequest,
    GetUploadRequest,
    ListUploadsRequest,
)
from luthier_common.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlatformError,
)
from luthier_common.events.subscribe import Event, Subscription
from luthier_common.nats_client import open_nats
from luthier_common.nats_process import NatsProcess
from luthier_common.objects.blobs import Blobs, digest_of
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.objects.open import open_object_store
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_dataset import files, staging, uploads
from luthier_dataset.files import Files
from luthier_dataset.metrics import Metrics
from luthier_dataset.staging import Staging
from luthier_dataset.uploads import Uploads
from prometheus_client import CollectorRegistry

from tests.support.dataset_service import (
    DatasetClient,
    DatasetServer,
    dataset_service,
    objects_url,
)
from tests.support.eventually import eventually
from tests.support.grpc_server import caller
from tests.support.nats_server import nats_server
from tests.support.s3_server import S3Server, s3_server

State = Upload.State
ROW = json.dumps(
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
).encode()
DATA = random.Random(1).randbytes(10_000)


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def server(tmp_path: Path, nats: NatsProcess) -> AsyncIterator[DatasetServer]:
    async with dataset_service(tmp_path, nats.url) as running:
        yield running


@pytest.fixture
def client(server: DatasetServer) -> DatasetClient:
    return server.client()


def staged(folder: Path) -> list[Path]:
    """What the object store holds of uploads."""
    return [path for path in (folder / "objects" / "uploads").rglob("*") if path.is_file()]


async def get(client: DatasetClient, name: str) -> Upload:
    return await client.uploads.GetUpload(GetUploadRequest(name=name))


async def cancel(client: DatasetClient, name: str) -> Upload:
    return await client.uploads.CancelUpload(CancelUploadRequest(name=name))


async def refused(call: Awaitable[object], kind: type[PlatformError]) -> tuple[str, str | None]:
    """Reason and field of the refusal of a call."""
    with pytest.raises(kind) as caught:
        await call
    return caught.value.reason, caught.value.field


async def test_parts_sent_together_make_the_file_in_the_order_that_is_asked(
    client: DatasetClient, tmp_path: Path
) -> None:
    upload = await client.begin(len(DATA), "book.pdf")
    assert upload.name.startswith("projects/acme/uploads/upload-")
    assert (upload.state, upload.file, upload.put_url) == (State.PENDING, "", "")
    lifetime = upload.expire_time.ToDatetime() - upload.create_time.ToDatetime()
    assert timedelta(minutes=59) < lifetime <= timedelta(hours=1)

    pieces = [DATA[6000:], DATA[:2000], DATA[2000:6000]]
    parts = await asyncio.gather(*(client.add_part(upload.name, piece) for piece in pieces))
    assert [part.size_bytes for part in parts] == [4000, 2000, 4000]
    assert parts[1].sha256 == hashlib.sha256(DATA[:2000]).hexdigest()
    assert len(staged(tmp_path)) == 3

    ordered = [parts[1], parts[2], parts[0]]
    done = await client.complete(upload.name, ordered, md5=hashlib.md5(DATA).hexdigest().upper())
    assert (done.state, done.name) == (State.COMPLETED, upload.name)
    file = await client.files.GetFile(GetFileRequest(name=done.file))
    assert (file.display_name, file.purpose) == ("book.pdf", File.Purpose.USER_DATA)
    assert (file.size_bytes, file.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert await client.download(file.name) == DATA
    # What was kept for the upload goes; the file stays whole.
    await eventually(lambda: not staged(tmp_path))
    assert await client.download(file.name) == DATA


async def test_completing_again_or_twice_at_once_gives_the_same_file(client: DatasetClient) -> None:
    upload = await client.begin(3)
    part = await client.add_part(upload.name, b"abc")
    first, second = await asyncio.gather(
        client.complete(upload.name, [part]), client.complete(upload.name, [part])
    )
    again = await client.complete(upload.name, [part])
    assert first.file == second.file == again.file
    assert await client.file_names() == [first.file]


async def test_the_same_bytes_are_the_same_part_and_may_stand_twice(client: DatasetClient) -> None:
    upload = await client.begin(6)
    parts = [await client.add_part(upload.name, b"abc") for _ in range(3)]
    assert parts[0] == parts[1] == parts[2]
    assert list((await get(client, upload.name)).parts) == parts[:1]
    done = await client.complete(upload.name, parts[:2])
    assert await client.download(done.file) == b"abcabc"


async def test_an_upload_goes_on_after_a_restart_between_any_two_steps(
    tmp_path: Path, nats: NatsProcess
) -> None:
    @asynccontextmanager
    async def restarted() -> AsyncIterator[DatasetClient]:
        async with dataset_service(tmp_path, nats.url) as server:
            yield server.client()

    async with restarted() as client:
        upload = (await client.begin(6)).name
    parts: list[UploadPart] = []
    for data in (b"abc", b"def"):
        async with restarted() as client:
            await client.add_part(upload, data)
    async with restarted() as client:
        found = {part.sha256: part for part in (await get(client, upload)).parts}
        parts = [found[hashlib.sha256(data).hexdigest()] for data in (b"abc", b"def")]
    async with restarted() as client:
        done = await client.complete(upload, parts)
    async with restarted() as client:
        assert (await get(client, upload)).state == State.COMPLETED
        assert (await client.complete(upload, parts)).file == done.file
        assert await client.download(done.file) == b"abcdef"


async def test_a_completion_that_a_crash_cut_short_is_finished(
    tmp_path: Path, nats: NatsProcess
) -> None:
    async with dataset_service(tmp_path, nats.url) as server:
        client = server.client()
        again, left = await client.begin(3), await client.begin(3)
        part = await client.add_part(again.name, b"abc")
        for upload in (again, left):
            # As far as a completion gets that is killed before it writes the upload's record.
            file_id = upload.name.rpartition("/")[2].replace("upload", "file")
            await client.upload(b"abc", file_id=file_id)
        done = await client.complete(again.name, [part])
        assert len(await client.file_names()) == 2
    async with dataset_service(tmp_path, nats.url) as server:
        client = server.client()
        await eventually(lambda: is_completed(client, left.name))
        ended = await get(client, left.name)
        assert sorted([done.file, ended.file]) == sorted(await client.file_names())


async def is_completed(client: DatasetClient, name: str) -> bool:
    return (await get(client, name)).state == State.COMPLETED


@pytest.mark.parametrize(
    ("changed", "reason", "field"),
    [
        ({"size_bytes": 0}, "INVALID_SIZE", "upload.size_bytes"),
        ({"size_bytes": -1}, "INVALID_SIZE", "upload.size_bytes"),
        ({"size_bytes": 2**20 + 1}, "FILE_TOO_LARGE", "upload.size_bytes"),
        ({"display_name": ""}, "INVALID_DISPLAY_NAME", "upload.display_name"),
        ({"purpose": 0}, "INVALID_PURPOSE", "upload.purpose"),
        ({"purpose": File.Purpose.FINE_TUNE_RESULTS}, "INVALID_PURPOSE", "upload.purpose"),
        ({"mime_type": "a\nb"}, "INVALID_MIME_TYPE", "upload.mime_type"),
    ],
)
async def test_what_can_be_no_file_is_refused_before_a_byte_is_sent(
    client: DatasetClient, changed: dict[str, object], reason: str, field: str
) -> None:
    draft = Upload(display_name="a.txt", purpose=File.Purpose.USER_DATA, size_bytes=3)
    for name, value in changed.items():
        setattr(draft, name, value)
    request = CreateUploadRequest(parent="projects/acme", upload=draft)
    call = client.uploads.CreateUpload(request)
    assert await refused(call, InvalidArgument) == (reason, field)
    listed = await client.uploads.ListUploads(ListUploadsRequest(parent="projects/acme"))
    assert not listed.uploads


async def test_parts_that_cannot_be_are_refused(
    client: DatasetClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(staging, "MAX_PART_BYTES", 5000)
    name = (await client.begin(6000)).name
    empty = client.add_part(name, b"")
    assert await refused(empty, InvalidArgument) == ("EMPTY_PART", "chunk")
    large = client.add_part(name, DATA[:5001])
    assert await refused(large, InvalidArgument) == ("PART_TOO_LARGE", "chunk")
    assert not staged(tmp_path)
    for number in range(3):
        await client.add_part(name, bytes([number]) * 4000)
    fourth = client.add_part(name, b"more")
    assert await refused(fourth, InvalidArgument) == ("TOO_MANY_PARTS", "chunk")
    # Repeating one needs no room.
    await client.add_part(name, bytes(4000))
    assert len(staged(tmp_path)) == 3, "of the refused one nothing stays"


async def test_a_part_whose_stream_breaks_off_leaves_nothing(
    client: DatasetClient, tmp_path: Path
) -> None:
    name = (await client.begin(100)).name
    sent = asyncio.Event()

    async def requests() -> AsyncIterator[AddUploadPartRequest]:
        yield AddUploadPartRequest(parent=name, chunk=b"half")
        sent.set()
        await asyncio.Event().wait()

    call = asyncio.ensure_future(client.uploads.AddUploadPart(requests()))
    await sent.wait()
    call.cancel()
    await asyncio.wait([call])
    await client.add_part(name, b"whole")
    assert [part.size_bytes for part in (await get(client, name)).parts] == [5]
    assert len(staged(tmp_path)) == 1


async def test_a_completion_that_does_not_fit_says_why_and_can_be_repeated(
    client: DatasetClient,
) -> None:
    name = (await client.begin(6)).name
    abc, ef = await client.add_part(name, b"abc"), await client.add_part(name, b"ef")
    other = await client.add_part((await client.begin(3)).name, b"abc")
    made_up = UploadPart(name=f"{name}/parts/part-0")
    good, complete = [abc, abc], client.complete

    cases: list[tuple[Awaitable[object], str, str]] = [
        (complete(name), "SIZE_MISMATCH", "parts"),
        (complete(name, [abc, ef]), "SIZE_MISMATCH", "parts"),
        (complete(name, [abc, other]), "PART_NOT_FOUND", "parts[1]"),
        (complete(name, [made_up]), "PART_NOT_FOUND", "parts[0]"),
        (complete(name, [UploadPart(name="x")]), "PART_NOT_FOUND", "parts[0]"),
        (complete(name, good, md5="0" * 32), "MD5_MISMATCH", "md5"),
        (complete(name, good, sha256="0" * 64), "SHA256_MISMATCH", "sha256"),
        (complete(name, good, md5="abc"), "INVALID_DIGEST", "md5"),
        (complete(name, good, sha256="0" * 32), "INVALID_DIGEST", "sha256"),
    ]
    for call, reason, field in cases:
        assert await refused(call, InvalidArgument) == (reason, field)
    assert await client.file_names() == []
    sha256 = hashlib.sha256(b"abcabc").hexdigest()
    assert (await complete(name, good, sha256=sha256)).state == State.COMPLETED


async def test_rows_are_checked_across_parts(client: DatasetClient) -> None:
    rows = (ROW + b"\n") * 20
    bad = rows + b"{oops\n" + ROW

    async def upload(data: bytes) -> Upload:
        name = (await client.begin(len(data), "r.jsonl", purpose=File.Purpose.FINE_TUNE)).name
        parts = [
            await client.add_part(name, data[start : start + 333])
            for start in range(0, len(data), 333)
        ]
        return await client.complete(name, parts)

    assert await client.download((await upload(rows)).file) == rows
    with pytest.raises(InvalidArgument, match="line 21: is not valid JSON") as caught:
        await upload(bad)
    assert (caught.value.reason, caught.value.field) == ("INVALID_ROW", "file")


async def test_a_cancelled_upload_is_over_and_leaves_nothing(
    client: DatasetClient, tmp_path: Path
) -> None:
    name = (await client.begin(3)).name
    part = await client.add_part(name, b"abc")
    assert (await cancel(client, name)).state == State.CANCELLED
    assert (await cancel(client, name)).state == State.CANCELLED
    for call in (client.add_part(name, b"abc"), client.complete(name, [part])):
        assert await refused(call, FailedPrecondition) == ("UPLOAD_CANCELLED", None)
    await eventually(lambda: not staged(tmp_path))
    assert not (await get(client, name)).parts


async def test_a_completed_upload_takes_no_more_parts_and_cannot_be_cancelled(
    client: DatasetClient,
) -> None:
    name = (await client.begin(3)).name
    await client.complete(name, [await client.add_part(name, b"abc")])
    for call in (client.add_part(name, b"x"), cancel(client, name)):
        assert await refused(call, FailedPrecondition) == ("UPLOAD_COMPLETED", None)


async def test_after_its_hour_an_upload_has_expired(
    client: DatasetClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_LIFETIME", timedelta())
    name = (await client.begin(3)).name
    assert (await get(client, name)).state == State.EXPIRED
    listed = await client.uploads.ListUploads(ListUploadsRequest(parent="projects/acme"))
    assert [upload.state for upload in listed.uploads] == [State.EXPIRED]
    for ask in (client.add_part(name, b"x"), cancel(client, name)):
        assert await refused(ask, FailedPrecondition) == ("UPLOAD_EXPIRED", None)
    assert await refused(client.complete(name), FailedPrecondition) == ("UPLOAD_EXPIRED", None)


async def test_uploads_are_listed_newest_first_and_by_page(client: DatasetClient) -> None:
    made = [(await client.begin(1)).name for _ in range(3)]
    request = ListUploadsRequest(parent="projects/acme", page_size=2)
    page = await client.uploads.ListUploads(request)
    assert [upload.name for upload in page.uploads] == [made[2], made[1]]
    request.page_token = page.next_page_token
    page = await client.uploads.ListUploads(request)
    assert [upload.name for upload in page.uploads] == [made[0]]
    assert page.next_page_token == ""


async def test_another_project_sees_nothing_of_an_upload(server: DatasetServer) -> None:
    name = (await server.client().begin(3)).name
    rival = server.client(caller("rivals"))
    for call in (
        get(rival, name),
        rival.add_part(name, b"abc"),
        rival.complete(name),
        cancel(rival, name),
    ):
        with pytest.raises(NotFound):
            await call


async def test_every_change_of_state_is_announced(client: DatasetClient, nats: NatsProcess) -> None:
    heard: list[str] = []

    async def hear(event: Event) -> None:
        heard.append(f"{event.subject} {event.parse(UploadChanged).name}")

    async with (
        open_nats(nats.url, name="test") as connection,
        Subscription(connection.jetstream(), ["luthier.dataset.v1.uploads.>"], hear, durable="t"),
    ):
        name = (await client.begin(3)).name
        expected = f"luthier.dataset.v1.uploads.acme.{name.rpartition('/')[2]}.changed {name}"
        await eventually(lambda: heard == [expected])
        await client.add_part(name, b"abc")
        await cancel(client, name)
        await eventually(lambda: heard == [expected] * 2)


@dataclass(frozen=True)
class House:
    """Uploads without a service around them."""

    uploads: Uploads
    objects: DirectoryObjects
    parts: Collection[UploadPart]

    async def begin(self, size: int) -> str:
        draft = Upload(display_name="a", purpose=File.Purpose.USER_DATA, size_bytes=size)
        return (await self.uploads.create("projects/acme", draft)).name

    async def add(self, name: str, data: bytes) -> UploadPart:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 2**20):
                yield data[start : start + 2**20]

        return await self.uploads.add_part(name, chunks())

    async def keys(self) -> list[str]:
        return [item.key async for item in self.objects.list("uploads/")]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store, objects = MemoryRecords(), DirectoryObjects(tmp_path / "objects")
    async with (
        Collection(store, File, files.PATTERN) as file_records,
        Collection(store, Upload, uploads.PATTERN) as upload_records,
        Collection(store, UploadPart, uploads.PART_PATTERN) as part_records,
    ):
        stored = Files(
            file_records,
            Blobs(objects),
            Metrics(CollectorRegistry()),
            max_bytes=2**30,
            dependents_of=lambda file: [],
        )
        made = Uploads(upload_records, part_records, Staging(objects), stored)
        yield House(made, objects, part_records)


async def test_what_expired_is_swept_when_no_completion_can_run_any_more(house: House) -> None:
    now = datetime.now(UTC)
    name = await house.begin(3)
    await house.add(name, b"abc")
    await house.uploads.sweep(now + timedelta(minutes=119))
    assert len(await house.keys()) == 1
    assert (await house.uploads.get(name)).parts
    await house.uploads.sweep(now + timedelta(minutes=121))
    assert await house.keys() == []
    assert house.parts.values() == []
    assert (await house.uploads.get(name)).state == State.EXPIRED
    await house.uploads.sweep(now + timedelta(days=2))
    with pytest.raises(NotFound):
        await house.uploads.get(name)


async def test_sweeping_spares_what_is_still_wanted(house: House) -> None:
    wanted, ended = await house.begin(3), await house.begin(3)
    part = await house.add(wanted, b"abc")
    # Equal bytes of another upload, and of a file, are none of its business.
    await house.add(ended, b"abc")
    done = await house.begin(3)
    same = await house.add(done, b"abc")
    await house.uploads.complete(done, [same.name], "", "")
    await house.uploads.cancel(ended)
    await house.uploads.sweep(datetime.now(UTC))
    assert [key.split("/")[1] for key in await house.keys()] == [wanted.rpartition("/")[2]]
    assert (await house.uploads.complete(wanted, [part.name], "", "")).file


async def test_parts_beyond_what_was_announced_are_never_stored(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("stored")

    name = await house.begin(10)
    monkeypatch.setattr(house.objects, "put", never)
    large = [house.add(name, bytes([number]) * 2**20) for number in range(5)]
    for part in large:
        assert await refused(part, InvalidArgument) == ("TOO_MANY_PARTS", "chunk")
    assert await house.keys() == []


async def test_parts_sent_at_once_share_the_room(house: House) -> None:
    name = await house.begin(1000)
    parts = [house.add(name, bytes([number]) * 600) for number in range(5)]
    results = await asyncio.gather(*parts, return_exceptions=True)
    (refusal,) = {str(one) for one in results if isinstance(one, InvalidArgument)}
    assert "more than twice the 1000 bytes" in refusal
    assert len(await house.keys()) == len(house.parts.values()) == 3
    whole = [one.name for one in results if isinstance(one, UploadPart)]
    assert len(whole) == 3


async def test_parts_are_not_more_than_can_be(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_MOST_PARTS", 2)
    name = await house.begin(1000)
    first = await house.add(name, b"one")
    await house.add(name, b"two")
    third = house.add(name, b"six")
    assert await refused(third, InvalidArgument) == ("TOO_MANY_PARTS", "chunk")
    assert await house.add(name, b"one") == first
    assert len(await house.keys()) == 2


async def test_a_completion_and_a_cancellation_do_not_both_win(house: House) -> None:
    name = await house.begin(3)
    part = await house.add(name, b"abc")
    completing = asyncio.ensure_future(house.uploads.complete(name, [part.name], "", ""))
    await asyncio.sleep(0)
    reason = await refused(house.uploads.cancel(name), FailedPrecondition)
    assert reason == ("UPLOAD_COMPLETING", None)
    assert (await completing).state == State.COMPLETED


async def test_completing_holds_a_fraction_of_the_file_in_memory(house: House) -> None:
    pieces = [random.Random(seed).randbytes(12 * 2**20) for seed in range(4)]
    name = await house.begin(48 * 2**20)
    names = [(await house.add(name, piece)).name for piece in pieces]
    del pieces
    tracemalloc.start()
    try:
        await house.uploads.complete(name, names, "", "")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


async def test_a_directory_takes_no_direct_uploads(client: DatasetClient) -> None:
    with pytest.raises(FailedPrecondition, match="upload in parts") as caught:
        await client.begin(3, direct=True)
    assert caught.value.reason == "DIRECT_UPLOAD_UNSUPPORTED"
    listed = await client.uploads.ListUploads(ListUploadsRequest(parent="projects/acme"))
    assert not listed.uploads


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3"), presigned=True) as running:
        yield running


@pytest.fixture
async def beside_s3(
    tmp_path: Path, nats: NatsProcess, s3: S3Server
) -> AsyncIterator[DatasetClient]:
    """Of a service that keeps its objects in S3."""
    async with dataset_service(tmp_path, nats.url, s3=s3, max_file_bytes=2**33) as server:
        yield server.client()


async def put(url: str, data: bytes) -> int:
    """Send a plain HTTP PUT, as any client would, and return the status."""
    async with httpx2.AsyncClient() as http:
        return (await http.put(url, content=data)).status_code


async def test_bytes_that_went_straight_to_the_store_become_a_file(
    beside_s3: DatasetClient,
) -> None:
    client, rows = beside_s3, (ROW + b"\n") * 5000
    upload = await client.begin(
        len(rows), "rows.jsonl", purpose=File.Purpose.FINE_TUNE, direct=True
    )
    assert upload.direct
    # The URL is for who asked; nobody is shown it again.
    assert (await get(client, upload.name)).put_url == ""
    early = client.complete(upload.name)
    assert await refused(early, FailedPrecondition) == ("UPLOAD_NOT_STORED", None)

    assert await put(upload.put_url, rows[:-1]) == 200
    short = client.complete(upload.name)
    assert await refused(short, InvalidArgument) == ("SIZE_MISMATCH", None)
    assert await put(upload.put_url, rows[:-1] + b"x") == 200
    with pytest.raises(InvalidArgument, match="line 5000"):
        await client.complete(upload.name)
    assert await put(upload.put_url, rows) == 200
    other = client.complete(upload.name, sha256="0" * 64)
    assert await refused(other, InvalidArgument) == ("SHA256_MISMATCH", "sha256")

    md5 = hashlib.md5(rows).hexdigest()
    done = await client.complete(upload.name, md5=md5)
    assert (await client.complete(upload.name)).file == done.file
    assert await client.download(done.file) == rows
    file = await client.files.GetFile(GetFileRequest(name=done.file))
    assert file.sha256 == hashlib.sha256(rows).hexdigest()


async def test_a_direct_upload_has_no_parts_and_fits_into_one_request(
    beside_s3: DatasetClient,
) -> None:
    client = beside_s3
    upload = await client.begin(3, direct=True)
    parts = client.add_part(upload.name, b"abc")
    assert await refused(parts, FailedPrecondition) == ("UPLOAD_IS_DIRECT", None)
    named = client.complete(upload.name, [UploadPart(name=f"{upload.name}/parts/part-0")])
    assert await refused(named, InvalidArgument) == ("UPLOAD_IS_DIRECT", "parts")
    too_large = client.begin(5 * 2**30 + 1, direct=True)
    reason = await refused(too_large, InvalidArgument)
    assert reason == ("DIRECT_UPLOAD_TOO_LARGE", "upload.size_bytes")
    assert (await client.begin(5 * 2**30, direct=True)).put_url


async def test_what_was_put_for_a_cancelled_upload_goes(
    beside_s3: DatasetClient, tmp_path: Path, s3: S3Server
) -> None:
    upload = await beside_s3.begin(3, direct=True)
    assert await put(upload.put_url, b"abc") == 200
    await cancel(beside_s3, upload.name)
    objects = await open_object_store(
        objects_url(tmp_path, s3), access_key=s3.access_key, secret_key=s3.secret_key
    )

    async def is_gone() -> bool:
        return [item async for item in objects.list("uploads/")] == []

    await eventually(is_gone)


async def test_bytes_that_change_while_they_are_read_make_no_file(house: House) -> None:
    readings = iter([b"abc", b"abd"])

    async def read() -> AsyncIterator[bytes]:
        yield next(readings)

    blobs = Blobs(house.objects)
    blob = await digest_of(read())
    with pytest.raises(Aborted) as caught:
        await blobs.put_known("acme", blob, read)
    assert caught.value.reason == "SOURCE_CHANGED"
    assert not await blobs.exists("acme", blob.sha256)
