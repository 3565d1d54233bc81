"""A collection over the fake and over NATS: the same answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest
from luthier.dataset.v1.file_pb2 import File
from luthier_common.errors import (
    AlreadyExists,
    Conflict,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from luthier_common.records.collection import Collection
from luthier_common.records.jetstream import open_records
from luthier_common.records.memory import MemoryRecords
from luthier_common.records.port import RecordStore

from tests.support.eventually import eventually
from tests.support.nats_server import nats_connection

PATTERN = "projects/{project}/files/{file}"
ACME = "projects/acme"


@pytest.fixture(params=["memory", "jetstream"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    async with nats_connection(tmp_path) as nats:
        yield await open_records(nats.jetstream(), "dataset")


@pytest.fixture
async def files(store: RecordStore) -> AsyncIterator[Collection[File]]:
    async with Collection(store, File, PATTERN) as collection:
        yield collection


def name(number: int, project: str = "acme") -> str:
    return f"projects/{project}/files/f{number}"


async def make(files: Collection[File], count: int, project: str = "acme") -> None:
    for number in range(count):
        await files.create(name(number, project), File(size_bytes=number % 3))


def grow(file: File) -> File:
    file.size_bytes += 1
    return file


async def test_a_created_record_is_completed_and_read_back(files: Collection[File]) -> None:
    given = File(display_name="a.txt", etag="nonsense")
    created = await files.create(name(1), given)
    assert (created.name, created.display_name) == (name(1), "a.txt")
    assert created.create_time.seconds > 1_700_000_000
    assert created.etag not in ("", "nonsense")
    assert given == File(display_name="a.txt", etag="nonsense")
    assert await files.get(name(1)) == created
    assert files.values() == [created]


async def test_the_stored_value_is_readable_json_without_etag(
    files: Collection[File], store: RecordStore
) -> None:
    await files.create(name(1), File(display_name="ä.txt", purpose=File.USER_DATA))
    value = (await store.get(name(1))).value or b""
    assert b'"purpose": "USER_DATA"' in value
    assert b"etag" not in value


async def test_errors_name_the_record(files: Collection[File]) -> None:
    await files.create(name(1), File())
    with pytest.raises(AlreadyExists):
        await files.create(name(1), File())
    with pytest.raises(NotFound):
        await files.get(name(2))
    with pytest.raises(NotFound):
        await files.update(name(2), grow)
    with pytest.raises(NotFound):
        await files.delete(name(2))
    for bad in ("projects/acme/jobs/j", "projects/*/files/f1", ""):
        with pytest.raises(InvalidArgument):
            await files.get(bad)


async def test_an_update_checks_the_etag(files: Collection[File]) -> None:
    created = await files.create(name(1), File())
    updated = await files.update(name(1), grow, etag=created.etag)
    assert updated.size_bytes == 1
    assert updated.etag != created.etag
    assert updated.create_time == created.create_time
    with pytest.raises(Conflict):
        await files.update(name(1), grow, etag=created.etag)
    with pytest.raises(Conflict):
        await files.delete(name(1), etag=created.etag)
    await files.delete(name(1), etag=updated.etag)


async def test_a_change_to_none_writes_nothing(files: Collection[File]) -> None:
    created = await files.create(name(1), File())

    def spoil(file: File) -> None:
        file.size_bytes = 99

    assert await files.update(name(1), spoil) == created
    assert await files.get(name(1)) == created


async def test_an_error_in_the_change_comes_through(files: Collection[File]) -> None:
    await files.create(name(1), File())

    def refuse(file: File) -> NoReturn:
        raise FailedPrecondition("not now", reason="BUSY")

    with pytest.raises(FailedPrecondition, match="not now"):
        await files.update(name(1), refuse)
    with pytest.raises(FailedPrecondition, match="not now"):
        await files.delete(name(1), check=refuse)
    assert (await files.get(name(1))).size_bytes == 0


async def test_eight_writers_lose_no_update(files: Collection[File], store: RecordStore) -> None:
    await files.create(name(1), File())
    async with Collection(store, File, PATTERN) as others:

        async def write(collection: Collection[File]) -> None:
            for _ in range(10):
                await collection.update(name(1), grow)

        await asyncio.gather(*(write(files if n % 2 else others) for n in range(8)))
    assert (await files.get(name(1))).size_bytes == 80
    assert files.values()[0].size_bytes == 80 or await eventually(
        lambda: files.values()[0].size_bytes == 80
    )


async def test_own_writes_are_listed_at_once(files: Collection[File]) -> None:
    for number in range(20):
        await files.create(name(number), File())
        assert len(files.list(ACME).items) == number + 1
    for number in range(20):
        await files.update(name(number), grow)
        assert files.values(ACME)[0].size_bytes == 1
    for number in range(20):
        await files.delete(name(number))
        assert len(files.list(ACME).items) == 19 - number
    # The watch catches up with older entries, which must not bring anything back.
    for _ in range(20):
        await asyncio.sleep(0)
        assert files.list(ACME).items == []


async def test_a_second_reader_sees_what_was_and_what_comes(
    files: Collection[File], store: RecordStore
) -> None:
    await make(files, 3)
    await files.delete(name(0))
    async with Collection(store, File, PATTERN) as reader:
        assert [file.name for file in reader.values()] == [name(1), name(2)]
        await files.create(name(7), File())
        await files.delete(name(1))
        await eventually(lambda: [f.name for f in reader.values()] == [name(2), name(7)])


async def test_pages_cover_everything_once(files: Collection[File]) -> None:
    await make(files, 25)
    await make(files, 3, project="other")
    seen, token = [], ""
    while True:
        page = files.list(ACME, page_size=10, page_token=token)
        seen += [file.name for file in page.items]
        assert page.has_more == bool(page.next_page_token)
        token = page.next_page_token
        if not token:
            break
        # What was shown already may go, the pages go on all the same.
        await files.delete(seen[-1])
    assert seen == [name(number) for number in reversed(range(25))]


async def test_orders_ties_and_filters(files: Collection[File]) -> None:
    await make(files, 9)
    ascending = files.list(ACME, order_by="size_bytes").items
    assert [(f.size_bytes, f.name) for f in ascending] == sorted(
        (number % 3, name(number)) for number in range(9)
    )
    descending = files.list(ACME, order_by="size_bytes desc").items
    assert descending == list(reversed(ascending))
    assert files.list(ACME, order_by="name asc").items == files.values(ACME)
    small = files.list(ACME, where=lambda f: f.size_bytes == 0, query="small", page_size=2)
    assert len(small.items) == 2
    with pytest.raises(InvalidArgument):
        files.list(ACME, query="large", page_token=small.next_page_token)
    rest = files.list(
        ACME,
        where=lambda f: f.size_bytes == 0,
        query="small",
        page_size=2,
        page_token=small.next_page_token,
    )
    assert (len(rest.items), rest.has_more) == (1, False)


async def test_after_names_the_item_before(files: Collection[File]) -> None:
    await make(files, 5)
    page = files.list(ACME, after=name(3), page_size=2)
    assert [file.name for file in page.items] == [name(2), name(1)]
    page = files.list(ACME, after=name(3), page_size=2, page_token=page.next_page_token)
    assert [file.name for file in page.items] == [name(0)]
    with pytest.raises(InvalidArgument) as caught:
        files.list(ACME, after=name(99))
    assert caught.value.field == "after"


@pytest.mark.parametrize(
    "order_by", ["", "nonsense", "name sideways", "name desc extra", "DESCRIPTOR"]
)
async def test_a_bad_order_is_refused(files: Collection[File], order_by: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        files.list(ACME, order_by=order_by)
    assert caught.value.field == "order_by"


async def test_a_listed_record_is_a_private_copy(files: Collection[File]) -> None:
    await make(files, 1)
    files.list(ACME).items[0].display_name = "spoiled"
    files.values()[0].display_name = "spoiled"
    assert files.list(ACME).items[0].display_name == ""


async def test_changes_wake_a_controller(files: Collection[File], store: RecordStore) -> None:
    async with Collection(store, File, PATTERN) as reader:
        changes = reader.changes()
        await files.create(name(1), File())
        assert await asyncio.wait_for(anext(changes), 5) == name(1)
        await files.delete(name(1))
        assert await asyncio.wait_for(anext(changes), 5) == name(1)
        waiting = asyncio.ensure_future(anext(changes))
    with contextlib.suppress(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)
        pytest.fail("a closed collection has no more changes")


async def test_a_damaged_record_is_reported_and_hides_no_other(store: RecordStore) -> None:
    await store.create(name(1), b'{"sizeBytes": "many"}')
    async with Collection(store, File, PATTERN) as files:
        await files.create(name(2), File())
        assert [file.name for file in files.values()] == [name(2)]
        with pytest.raises(DataLoss):
            await files.get(name(1))


async def test_a_field_of_a_newer_version_is_ignored(store: RecordStore) -> None:
    await store.create(name(1), b'{"displayName": "a", "inventedLater": 1}')
    async with Collection(store, File, PATTERN) as files:
        assert (await files.get(name(1))).display_name == "a"
