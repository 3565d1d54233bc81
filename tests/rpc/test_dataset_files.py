import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from luthier.dataset.v1.events_pb2 import FileCreated, FileDeleted
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import (
    CreateFileRequest,
    DeleteFileRequest,
    GetFileRequest,
    ListFilesRequest,
)
from luthier_common.errors import AlreadyExists, InvalidArgument, NotFound, PlatformError
from luthier_common.events.subscribe import Event, Subscription
from luthier_common.identity import Role
from luthier_common.nats_client import open_nats
from luthier_common.nats_process import NatsProcess
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_dataset import files
from luthier_dataset.metrics import Metrics
from prometheus_client import CollectorRegistry

from tests.support.dataset_service import DatasetClient, DatasetServer, dataset_service, store
from tests.support.eventually import eventually
from tests.support.grpc_server import caller
from tests.support.nats_server import nats_server

ROW = json.dumps(
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
).encode()


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


async def test_what_is_uploaded_comes_back(client: DatasetClient) -> None:
    data = bytes(range(256)) * 1500
    stored = await client.upload(data, "data.bin")
    assert stored.name.startswith("projects/acme/files/file-")
    assert (stored.size_bytes, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert stored.HasField("create_time")
    assert stored.etag
    assert await client.files.GetFile(GetFileRequest(name=stored.name)) == stored
    assert await client.download(stored.name) == data


async def test_rows_are_stored_as_they_came(client: DatasetClient) -> None:
    data = b"\xef\xbb\xbf" + ROW + b"\r\n" + ROW + b"\n\n"
    stored = await client.upload(data, "rows.jsonl", purpose=File.Purpose.FINE_TUNE, piece=11)
    assert await client.download(stored.name) == data


async def test_a_broken_line_is_named_and_leaves_nothing(client: DatasetClient) -> None:
    data = (ROW + b"\n") * 16 + b"{oops\n" + ROW
    with pytest.raises(InvalidArgument) as caught:
        await client.upload(data, "rows.jsonl", purpose=File.Purpose.FINE_TUNE, file_id="file-1")
    assert caught.value.message.startswith("line 17: is not valid JSON")
    assert (caught.value.field, caught.value.reason) == ("file", "INVALID_ROW")
    assert await client.file_names() == []
    # The same bytes are no rows, but they are bytes.
    assert (await client.upload(data, "rows.jsonl", file_id="file-1")).size_bytes == len(data)


@pytest.mark.parametrize(
    ("data", "name", "purpose", "file_id", "field"),
    [
        (b"", "a.txt", File.Purpose.USER_DATA, "", "file"),
        (b"", "a.jsonl", File.Purpose.FINE_TUNE, "", "file"),
        (b"\n\n", "a.jsonl", File.Purpose.FINE_TUNE, "", "file"),
        (bytes(2**20 + 1), "a.txt", File.Purpose.USER_DATA, "", "file"),
        (b"a", "", File.Purpose.USER_DATA, "", "file.display_name"),
        (b"a", "a\nb", File.Purpose.USER_DATA, "", "file.display_name"),
        (b"a", "a", File.Purpose.PURPOSE_UNSPECIFIED, "", "file.purpose"),
        (b"a", "a", File.Purpose.FINE_TUNE_RESULTS, "", "file.purpose"),
        (b"a", "a", File.Purpose.USER_DATA, "Not-An-Id", "file_id"),
    ],
)
async def test_what_cannot_be_a_file_is_refused(
    client: DatasetClient,
    data: bytes,
    name: str,
    purpose: File.Purpose,
    file_id: str,
    field: str,
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await client.upload(data, name, purpose=purpose, file_id=file_id, piece=100_000)
    assert caught.value.field == field
    assert await client.file_names() == []


async def test_a_training_job_may_store_results(server: DatasetServer) -> None:
    service = server.client(caller(role=Role.SERVICE))
    stored = await service.upload(b"step,loss", "m.csv", purpose=File.Purpose.FINE_TUNE_RESULTS)
    assert stored.purpose == File.Purpose.FINE_TUNE_RESULTS


async def test_a_stream_that_breaks_off_leaves_nothing(client: DatasetClient) -> None:
    sent = asyncio.Event()

    async def requests() -> AsyncIterator[CreateFileRequest]:
        file = File(display_name="a.bin", purpose=File.Purpose.USER_DATA)
        yield CreateFileRequest(parent="projects/acme", file=file, file_id="file-1")
        yield CreateFileRequest(chunk=b"half")
        sent.set()
        await asyncio.Event().wait()

    call = asyncio.ensure_future(client.files.CreateFile(requests()))
    await sent.wait()
    call.cancel()
    await asyncio.wait([call])
    whole = await client.upload(b"whole", file_id="file-2")
    assert await client.file_names() == [whole.name]
    assert (await client.upload(b"other", file_id="file-1")).sha256 == (
        hashlib.sha256(b"other").hexdigest()
    )


async def test_a_stream_that_ends_without_its_last_message_leaves_nothing(
    client: DatasetClient,
) -> None:
    file = File(display_name="a.bin", purpose=File.Purpose.USER_DATA)

    async def requests() -> AsyncIterator[CreateFileRequest]:
        yield CreateFileRequest(parent="projects/acme", file=file, chunk=b"half")
        yield CreateFileRequest(chunk=b" of it")

    with pytest.raises(InvalidArgument, match="the bytes break off") as refused:
        await client.files.CreateFile(requests())
    assert refused.value.reason == "STREAM_BROKEN_OFF"
    assert await client.file_names() == []


async def test_an_id_is_taken_once_except_by_the_same_file(client: DatasetClient) -> None:
    stored = await client.upload(b"one", "a.txt", file_id="file-1")
    assert await client.upload(b"one", "a.txt", file_id="file-1") == stored
    for other in ((b"two", "a.txt"), (b"one", "b.txt")):
        with pytest.raises(AlreadyExists):
            await client.upload(*other, file_id="file-1")
    assert await client.download(stored.name) == b"one"


async def test_deleting_one_of_two_equal_files_keeps_the_other(client: DatasetClient) -> None:
    one, two = await client.upload(b"same"), await client.upload(b"same")
    await client.files.DeleteFile(DeleteFileRequest(name=one.name))
    with pytest.raises(NotFound):
        await client.files.GetFile(GetFileRequest(name=one.name))
    with pytest.raises(NotFound):
        await client.download(one.name)
    with pytest.raises(NotFound):
        await client.files.DeleteFile(DeleteFileRequest(name=one.name))
    assert await client.download(two.name) == b"same"


async def test_what_is_left_of_a_deleted_file_is_shown_on_demand_only(
    client: DatasetClient,
) -> None:
    stored = await client.upload(b"gone", file_id="file-1")
    kept = await client.upload(b"kept", file_id="file-2")
    tombstone = await client.files.DeleteFile(DeleteFileRequest(name=stored.name))
    assert tombstone.HasField("delete_time")
    assert (tombstone.sha256, list(tombstone.dependents)) == (stored.sha256, [])

    asked = GetFileRequest(name=stored.name, show_deleted=True)
    assert await client.files.GetFile(asked) == tombstone
    assert await client.file_names() == [kept.name]
    everything = ListFilesRequest(parent="projects/acme", show_deleted=True)
    listed = (await client.files.ListFiles(everything)).files
    assert [file.name for file in listed] == [kept.name, stored.name]


async def test_the_id_of_a_deleted_file_is_never_used_again(client: DatasetClient) -> None:
    stored = await client.upload(b"one", file_id="file-1")
    await client.files.DeleteFile(DeleteFileRequest(name=stored.name))
    for data in (b"one", b"two"):
        with pytest.raises(AlreadyExists):
            await client.upload(data, file_id="file-1")


async def test_a_deletion_names_what_depends_on_the_file(tmp_path: Path) -> None:
    dataset = "projects/acme/datasets/dataset-1"

    def dependents_of(file: File) -> list[str]:
        return [dataset] if file.dataset == dataset else []

    async def chunks() -> AsyncIterator[bytes]:
        yield ROW

    draft = File(display_name="rows.jsonl", purpose=File.Purpose.FINE_TUNE)
    async with Collection(MemoryRecords(), File, files.PATTERN) as records:
        stored = files.Files(
            records,
            store(tmp_path),
            Metrics(CollectorRegistry()),
            max_bytes=1000,
            dependents_of=dependents_of,
        )
        minted = await stored.create("projects/acme", draft, "", chunks(), dataset=dataset)
        assert minted.dataset == dataset
        other = await stored.create("projects/acme", draft, "", chunks())
        assert list((await stored.delete(minted.name)).dependents) == [dataset]
        assert list((await stored.delete(other.name)).dependents) == []


async def test_bytes_that_can_be_read_again_pass_through_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield ROW

    draft = File(display_name="rows.jsonl", purpose=File.Purpose.FINE_TUNE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    async with Collection(MemoryRecords(), File, files.PATTERN) as records:
        stored = files.Files(
            records,
            store(tmp_path),
            Metrics(CollectorRegistry()),
            max_bytes=1000,
            dependents_of=lambda file: [],
        )
        dataset = "projects/acme/datasets/dataset-1"
        minted = await stored.create_from("projects/acme", draft, "", chunks, dataset=dataset)
        await stored.create_from("projects/acme", draft, "", chunks)
        assert minted.dataset == dataset
        assert [file.name for file in stored.minted_by(dataset)] == [minted.name]
        await stored.delete(minted.name)
        assert not stored.minted_by(dataset)


async def test_nobody_outside_says_which_dataset_minted_a_file(client: DatasetClient) -> None:
    async def requests() -> AsyncIterator[CreateFileRequest]:
        file = File(display_name="a", purpose=File.Purpose.USER_DATA, dataset="projects/acme/x")
        yield CreateFileRequest(parent="projects/acme", file=file, chunk=b"x", last=True)

    assert (await client.files.CreateFile(requests())).dataset == ""


async def test_lists_are_paged_ordered_and_filtered(client: DatasetClient) -> None:
    made = [(await client.upload(b"x", file_id=f"file-{n}")).name for n in range(5)]
    rows = await client.upload(ROW, "r.jsonl", purpose=File.Purpose.FINE_TUNE, file_id="file-r")
    newest_first = [rows.name, *reversed(made)]
    list_files = client.files.ListFiles

    assert await client.file_names() == newest_first
    seen, token = [], ""
    while True:
        page = await list_files(
            ListFilesRequest(parent="projects/acme", page_size=4, page_token=token)
        )
        seen.append([file.name for file in page.files])
        token = page.next_page_token
        if not token:
            break
    assert seen == [newest_first[:4], newest_first[4:]]

    async def names(**fields: object) -> list[str]:
        request = ListFilesRequest(parent="projects/acme", **fields)  # type: ignore[arg-type]
        return [file.name for file in (await list_files(request)).files]

    assert await names(order_by="create_time") == newest_first[::-1]
    assert await names(after=newest_first[1], page_size=2) == newest_first[2:4]
    assert await names(purpose=File.Purpose.FINE_TUNE) == [rows.name]
    assert await names(page_size=1_000_000) == newest_first
    for bad in ({"page_size": -1}, {"page_token": "x"}, {"order_by": "size"}, {"after": "x"}):
        with pytest.raises(InvalidArgument):
            await names(**bad)


async def test_more_than_a_thousand_files_come_in_one_page(client: DatasetClient) -> None:
    await asyncio.gather(*(client.upload(b"x", piece=1) for _ in range(1005)))
    page = await client.files.ListFiles(ListFilesRequest(parent="projects/acme", page_size=1004))
    assert len({file.name for file in page.files}) == 1004
    last = ListFilesRequest(parent="projects/acme", page_size=1004, page_token=page.next_page_token)
    assert len((await client.files.ListFiles(last)).files) == 1


async def test_a_file_survives_a_restart_and_announces_itself(
    tmp_path: Path, nats: NatsProcess
) -> None:
    heard: list[tuple[str, str]] = []

    async def hear(event: Event) -> None:
        if event.type == FileCreated.DESCRIPTOR.full_name:
            heard.append((event.subject, event.parse(FileCreated).name))
        else:
            heard.append((event.subject, event.parse(FileDeleted).name))

    async with dataset_service(tmp_path, nats.url) as server:
        name = (await server.client().upload(b"kept", file_id="file-1")).name
    async with (
        dataset_service(tmp_path, nats.url) as server,
        open_nats(nats.url, name="test") as connection,
        Subscription(connection.jetstream(), ["luthier.dataset.v1.files.>"], hear, durable="test"),
    ):
        client = server.client()
        assert await client.file_names() == [name]
        assert await client.download(name) == b"kept"
        await client.files.DeleteFile(DeleteFileRequest(name=name))
        subject = "luthier.dataset.v1.files.acme.file-1"
        await eventually(lambda: (f"{subject}.deleted", name) in heard)
    assert (f"{subject}.created", name) in heard


async def test_a_service_whose_records_vanished_does_not_start(
    tmp_path: Path, nats: NatsProcess
) -> None:
    async with dataset_service(tmp_path, nats.url) as server:
        await server.client().upload(b"x")
        journal = tmp_path / "objects" / "journal"
        await eventually(lambda: journal.is_dir() and any(journal.rglob("*.jsonl")))
    async with open_nats(nats.url, name="test") as connection:
        await connection.jetstream().delete_key_value("dataset")
    with pytest.raises(PlatformError, match="records rebuild"):
        async with dataset_service(tmp_path, nats.url):
            pass


@pytest.mark.parametrize("purpose", [File.Purpose.FINE_TUNE, File.Purpose.USER_DATA])
async def test_a_file_refused_while_it_is_sent_says_why(
    client: DatasetClient, purpose: File.Purpose
) -> None:
    data = b"no row at all\n" * 1_000_000
    wrong = {File.Purpose.FINE_TUNE: "INVALID_ROW", File.Purpose.USER_DATA: "FILE_TOO_LARGE"}
    for _ in range(5):
        with pytest.raises(InvalidArgument) as refused:
            await client.upload(data, "rows.jsonl", purpose=purpose, piece=1024**2)
        assert refused.value.reason == wrong[purpose]
