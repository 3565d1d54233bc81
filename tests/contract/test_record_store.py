"""What every RecordStore promises, on the fake and on NATS."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from luthier_common.errors import AlreadyExists, Conflict, NotFound
from luthier_common.records.jetstream import open_records
from luthier_common.records.memory import MemoryRecords
from luthier_common.records.port import Entry, RecordStore

from tests.support.nats_server import nats_connection

NAME = "projects/acme/files/one"


@pytest.fixture(params=["memory", "jetstream"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    async with nats_connection(tmp_path) as nats:
        yield await open_records(nats.jetstream(), "owner")


async def test_what_was_created_is_read(store: RecordStore) -> None:
    revision = await store.create(NAME, b'{"a":1}')
    assert await store.get(NAME) == Entry(NAME, b'{"a":1}', revision)


async def test_an_absent_name_is_not_found(store: RecordStore) -> None:
    with pytest.raises(NotFound) as caught:
        await store.get(NAME)
    assert caught.value.metadata == {"resource": NAME}


async def test_a_name_is_created_once(store: RecordStore) -> None:
    await store.create(NAME, b"{}")
    with pytest.raises(AlreadyExists):
        await store.create(NAME, b"{}")


async def test_an_update_replaces_exactly_the_revision_it_names(store: RecordStore) -> None:
    first = await store.create(NAME, b"1")
    second = await store.update(NAME, b"2", revision=first)
    assert second > first
    with pytest.raises(Conflict):
        await store.update(NAME, b"3", revision=first)
    assert (await store.get(NAME)).value == b"2"


@pytest.mark.parametrize("revision", [1, 99])
async def test_an_absent_name_cannot_be_updated(store: RecordStore, revision: int) -> None:
    with pytest.raises(Conflict):
        await store.update(NAME, b"1", revision=revision)


async def test_a_deletion_names_a_revision_too_and_frees_the_name(store: RecordStore) -> None:
    first = await store.create(NAME, b"1")
    second = await store.update(NAME, b"2", revision=first)
    with pytest.raises(Conflict):
        await store.delete(NAME, revision=first)
    deletion = await store.delete(NAME, revision=second)
    assert deletion > second
    with pytest.raises(NotFound):
        await store.get(NAME)
    assert await store.create(NAME, b"3") > deletion
    assert (await store.get(NAME)).value == b"3"


async def test_a_watch_yields_what_is_there_then_a_mark_then_changes(store: RecordStore) -> None:
    first = await store.create(NAME, b"1")
    await store.create("projects/acme/jobs/other", b"1")
    await store.create("projects/acme/files/one/parts/deeper", b"1")
    async with aclosing(store.watch("projects/*/files/*")) as entries:
        assert await anext(entries) == Entry(NAME, b"1", first)
        assert await anext(entries) is None
        second = await store.update(NAME, b"2", revision=first)
        await store.create("projects/acme/jobs/another", b"1")
        deletion = await store.delete(NAME, revision=second)
        seen = [await asyncio.wait_for(anext(entries), 5) for _ in range(1)]
        # A store may skip a value that was replaced before it was delivered.
        while seen[-1] is not None and seen[-1].revision != deletion:
            seen.append(await asyncio.wait_for(anext(entries), 5))
    assert seen[-1] == Entry(NAME, None, deletion)
    assert {entry.name for entry in seen if entry} == {NAME}


async def test_a_watch_of_nothing_begins_with_the_mark(store: RecordStore) -> None:
    async with aclosing(store.watch("projects/*/files/*")) as entries:
        assert await asyncio.wait_for(anext(entries), 5) is None


async def test_a_watch_delivers_more_than_one_batch(store: RecordStore) -> None:
    names = {f"projects/acme/files/f{number}" for number in range(700)}
    await asyncio.gather(*(store.create(name, b"{}") for name in names))
    seen = set()
    async with aclosing(store.watch("projects/*/files/*")) as entries:
        async for entry in entries:
            if entry is None:
                break
            seen.add(entry.name)
    assert seen == names


async def test_eight_writers_at_once_lose_no_update(store: RecordStore) -> None:
    await store.create(NAME, b"[]")

    async def write(writer: int) -> int:
        conflicts = 0
        for number in range(10):
            while True:
                entry = await store.get(NAME)
                value = [*json.loads(entry.value or b""), f"{writer}-{number}"]
                try:
                    encoded = json.dumps(value).encode()
                    await store.update(NAME, encoded, revision=entry.revision)
                    break
                except Conflict:
                    conflicts += 1
        return conflicts

    await asyncio.gather(*map(write, range(8)))
    written = json.loads((await store.get(NAME)).value or b"")
    assert sorted(written) == sorted(f"{w}-{n}" for w in range(8) for n in range(10))


async def test_of_eight_creators_one_wins(store: RecordStore) -> None:
    outcomes = await asyncio.gather(
        *(store.create(NAME, str(number).encode()) for number in range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 7


async def test_the_description_is_for_people(store: RecordStore) -> None:
    assert "records" in store.describe()
