"""The journal and the announcer on a real NATS: nothing lost, also by crashes."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from luthier.dataset.v1.events_pb2 import FileCreated, FileDeleted
from luthier.dataset.v1.file_pb2 import File
from luthier_common.errors import (
    DataLoss,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.events.announcer import Announcer
from luthier_common.events.stream import ensure_stream
from luthier_common.events.subscribe import Event, Subscription
from luthier_common.nats_client import open_nats
from luthier_common.nats_process import NatsProcess
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.objects.port import ObjectInfo
from luthier_common.records.collection import Collection
from luthier_common.records.jetstream import JetStreamRecords, open_records
from luthier_common.records.journal import Journal, guard_against_loss, rebuild
from luthier_common.records.segments import fold, list_segments, write_segment
from nats.aio.client import Client

from tests.support.eventually import eventually
from tests.support.nats_server import nats_server

PATTERN = "projects/{project}/files/{file}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with nats_server(tmp_path) as running:
        yield running


@pytest.fixture
async def nats(server: NatsProcess) -> AsyncIterator[Client]:
    async with open_nats(server.url, name="test") as client:
        yield client


@pytest.fixture
async def records(nats: Client) -> JetStreamRecords:
    return await open_records(nats.jetstream(), "dataset")


@pytest.fixture
def objects(tmp_path: Path) -> DirectoryObjects:
    return DirectoryObjects(tmp_path / "objects")


def name(number: int) -> str:
    return f"projects/acme/files/f{number}"


async def journalled(objects: DirectoryObjects, records: JetStreamRecords) -> dict[str, bytes]:
    """What a rebuild would bring back."""
    segments = await list_segments(objects, records.owner, records.generation)
    state = await fold(objects, segments)
    return {key: entry.value for key, entry in state.items() if entry.value is not None}


async def wipe(records: JetStreamRecords) -> JetStreamRecords:
    """Lose the bucket, as a broken disk would, and open what a restarted service finds."""
    await records.js.delete_key_value(records.owner)
    return await open_records(records.js, records.owner)


def event_for(
    record: str, value: bytes | None, revision: int
) -> tuple[str, FileCreated | FileDeleted] | None:
    _, project, _, file = record.split("/")
    subject = f"luthier.dataset.v1.files.{project}.{file}"
    if value is None:
        return f"{subject}.deleted", FileDeleted(name=record, revision=revision)
    return f"{subject}.created", FileCreated(name=record, revision=revision)


class Heard:
    """Collects events."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[Event] = []
        self._failures = failures

    async def __call__(self, event: Event) -> None:
        if self._failures:
            self._failures -= 1
            raise RuntimeError("not yet")
        self.events.append(event)

    def names(self) -> set[str]:
        return {event.parse(FileCreated).name for event in self.events}


async def test_a_rebuild_brings_everything_back_and_honours_deletions(
    records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    async with Journal(records, objects), Collection(records, File, PATTERN) as files:
        for number in range(30):
            await files.create(name(number), File(display_name=f"ä{number}"))
        for number in range(10):
            await files.delete(name(number))
        await files.create(name(5), File(display_name="again"))
        before = files.values()
        expected = {file.name for file in before}
        await eventually(lambda: _has(objects, records, expected))
    lost = await wipe(records)
    with pytest.raises(FailedPrecondition, match="luthier records rebuild"):
        await guard_against_loss(objects, lost)
    assert await rebuild(objects, lost) == 21
    await guard_against_loss(objects, lost)
    async with Journal(lost, objects), Collection(lost, File, PATTERN) as files:
        after = files.values()
        assert [_without_etag(file) for file in after] == [_without_etag(file) for file in before]
        with pytest.raises(NotFound):
            await files.get(name(3))
        await files.create(name(3), File())
        await eventually(lambda: _has(objects, lost, expected | {name(3)}))


async def _has(objects: DirectoryObjects, records: JetStreamRecords, names: set[str]) -> bool:
    return set(await journalled(objects, records)) == names


def _without_etag(file: File) -> File:
    file.etag = ""
    return file


async def test_a_record_is_journalled_within_two_seconds(
    records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    async with Journal(records, objects):
        await records.create(name(1), b'{"a":1}')
        await eventually(lambda: _has(objects, records, {name(1)}), timeout=2)


async def test_a_record_written_just_before_the_close_is_journalled(
    records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    async with Journal(records, objects):
        revision = await records.create(name(1), b"{}")
        for number in range(20):
            revision = await records.update(name(1), b'{"n":%d}' % number, revision=revision)
    assert await journalled(objects, records) == {name(1): b'{"n": 19}'}


async def test_closing_without_nats_ends_in_time_and_the_next_journal_catches_up(
    server: NatsProcess, records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    async with Journal(records, objects):
        await records.create(name(1), b"{}")
        await server.kill()
        closing = time.monotonic()
    assert time.monotonic() - closing < 7  # five seconds, and some for a busy machine
    await server.start()
    async with Journal(records, objects):
        pass
    assert await _has(objects, records, {name(1)})


async def test_an_interrupted_rebuild_keeps_the_service_down_and_can_be_repeated(
    records: JetStreamRecords, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Journal(records, objects):
        for number in range(40):
            await records.create(name(number), b"{}")
        await eventually(lambda: _has(objects, records, {name(n) for n in range(40)}))
    lost = await wipe(records)
    writes = itertools.count()
    create = JetStreamRecords.create

    async def dying(self: JetStreamRecords, record: str, value: bytes) -> int:
        if next(writes) == 20:
            raise Unavailable("killed", reason="TEST")
        return await create(self, record, value)

    with monkeypatch.context() as patch:
        patch.setattr(JetStreamRecords, "create", dying)
        with pytest.raises(Unavailable):
            await rebuild(objects, lost)
    found = await open_records(lost.js, lost.owner)
    assert await found.last_revision() > 0
    with pytest.raises(FailedPrecondition):
        await guard_against_loss(objects, found)
    assert await rebuild(objects, found) == 40
    await guard_against_loss(objects, found)


async def test_a_bucket_set_back_is_noticed_and_what_it_still_has_is_kept(
    records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    await records.create(name(1), b'{"only":"in the bucket"}')
    ahead = [await records.get(name(1))]
    ahead[0] = type(ahead[0])(name(2), b'{"only":"in the journal"}', 50)
    await write_segment(objects, records.owner, records.generation, ahead)
    with pytest.raises(FailedPrecondition):
        await guard_against_loss(objects, records)
    assert await rebuild(objects, records) == 2
    assert (await records.get(name(1))).value == b'{"only": "in the bucket"}' or (
        await records.get(name(1))
    ).value == b'{"only":"in the bucket"}'
    await records.get(name(2))


async def test_a_new_platform_and_a_healthy_one_may_start(
    records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    await guard_against_loss(objects, records)
    async with Journal(records, objects):
        await records.create(name(1), b"{}")
        await eventually(lambda: _has(objects, records, {name(1)}))
    await guard_against_loss(objects, await open_records(records.js, records.owner))


async def test_compaction_keeps_the_state_in_few_segments(
    records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    async with Journal(records, objects, segments=3):
        for number in range(8):
            revision = await records.create(name(number), b"{}")
            if number % 2:
                await records.delete(name(number), revision=revision)
            expected = {name(n) for n in range(0, number + 1, 2)}
            last = await records.last_revision()
            await eventually(partial(_reaches, objects, records, last))
            assert set(await journalled(objects, records)) == expected
    assert len(await list_segments(objects, records.owner)) <= 4


async def _reaches(objects: DirectoryObjects, records: JetStreamRecords, last: int) -> bool:
    return any(part.last == last for part in await list_segments(objects, records.owner))


async def test_a_compaction_that_dies_before_deleting_loses_nothing(
    records: JetStreamRecords, tmp_path: Path
) -> None:
    class Undeletable(DirectoryObjects):
        async def delete(self, key: str) -> None:
            raise Unavailable("killed", reason="TEST")

    objects = Undeletable(tmp_path / "objects")
    async with Journal(records, objects, segments=1):
        for number in range(4):
            await records.create(name(number), b"{}")
            written = {name(n) for n in range(number + 1)}
            await eventually(partial(_has, objects, records, written))


async def test_a_full_object_store_only_delays_the_journal(
    records: JetStreamRecords, tmp_path: Path
) -> None:
    class Full(DirectoryObjects):
        full = True

        async def put(self, key: str, data: bytes | object) -> ObjectInfo:
            if self.full:
                raise ResourceExhausted("full", reason="TEST")
            return await super().put(key, data)  # type: ignore[arg-type]

    objects = Full(tmp_path / "objects")
    async with Journal(records, objects):
        await records.create(name(1), b"{}")
        await asyncio.sleep(0)
        Full.full = False
        await eventually(lambda: _has(objects, records, {name(1)}), timeout=20)


async def test_a_damaged_journal_is_never_restored(
    records: JetStreamRecords, objects: DirectoryObjects, tmp_path: Path
) -> None:
    async with Journal(records, objects):
        await records.create(name(1), b'{"displayName":"a"}')
        await eventually(lambda: _has(objects, records, {name(1)}))
    (segment,) = (tmp_path / "objects" / "journal").rglob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"a"', b'"b"'))
    lost = await wipe(records)
    with pytest.raises(DataLoss):
        await rebuild(objects, lost)


async def test_each_change_is_announced_with_its_envelope(
    nats: Client, records: JetStreamRecords
) -> None:
    await ensure_stream(nats.jetstream())
    await ensure_stream(nats.jetstream())
    heard = Heard()
    async with (
        Announcer(records, event_for, source="luthier.dataset"),
        Subscription(nats.jetstream(), ["luthier.dataset.v1.files.>"], heard),
    ):
        revision = await records.create(name(1), b"{}")
        await eventually(lambda: len(heard.events) == 1)
        deletion = await records.delete(name(1), revision=revision)
        await eventually(lambda: len(heard.events) == 2)
    first, second = heard.events
    assert first.subject == "luthier.dataset.v1.files.acme.f1.created"
    assert first.type == "luthier.dataset.v1.FileCreated"
    assert first.source == "luthier.dataset"
    assert first.time.tzinfo is not None
    assert first.time.year > 2000
    assert first.parse(FileCreated) == FileCreated(name=name(1), revision=revision)
    assert second.parse(FileDeleted) == FileDeleted(name=name(1), revision=deletion)
    assert first.id != second.id


async def test_an_announcement_repeated_after_a_crash_is_heard_once(
    nats: Client, records: JetStreamRecords
) -> None:
    js = nats.jetstream()
    await ensure_stream(js)
    for number in range(5):
        await records.create(name(number), b"{}")
    for _ in range(2):
        async with Announcer(records, event_for, source="luthier.dataset"):
            await eventually(lambda: _announced(nats, 5))
        # As if it had died before acknowledging anything.
        await js.delete_consumer(records.stream, "announcer")
    assert (await js.stream_info("EVENTS")).state.messages == 5


async def _announced(nats: Client, count: int) -> bool:
    return (await nats.jetstream().stream_info("EVENTS")).state.messages >= count


async def test_a_record_that_cannot_be_announced_holds_up_no_other(
    nats: Client, records: JetStreamRecords
) -> None:
    await ensure_stream(nats.jetstream())

    def picky(record: str, value: bytes | None, revision: int) -> tuple[str, FileCreated]:
        if record == name(1):
            raise ValueError("a defect")
        return f"luthier.test.v1.{revision}", FileCreated(name=record)

    for number in range(4):
        await records.create(name(number), b"{}")
    heard = Heard()
    async with (
        Announcer(records, picky, source="test"),
        Subscription(nats.jetstream(), ["luthier.test.v1.>"], heard, durable="reader"),
    ):
        await eventually(lambda: heard.names() == {name(0), name(2), name(3)})


async def test_a_durable_reader_misses_nothing_and_retries(
    nats: Client, records: JetStreamRecords
) -> None:
    js = nats.jetstream()
    await ensure_stream(js)
    async with Announcer(records, event_for, source="luthier.dataset"):
        await records.create(name(1), b"{}")
        await eventually(lambda: _announced(nats, 1))
        heard = Heard(failures=2)
        async with Subscription(js, ["luthier.dataset.v1.>"], heard, durable="reader"):
            await eventually(lambda: heard.names() == {name(1)}, timeout=20)
        await records.create(name(2), b"{}")
        again = Heard()
        async with Subscription(js, ["luthier.dataset.v1.>"], again, durable="reader"):
            await eventually(lambda: again.names() == {name(2)})


async def test_a_killed_server_loses_no_acknowledged_record_and_all_followers_go_on(
    server: NatsProcess, nats: Client, records: JetStreamRecords, objects: DirectoryObjects
) -> None:
    await ensure_stream(nats.jetstream())
    heard = Heard()
    acknowledged: set[str] = set()

    async def write(writer: int, files: Collection[File]) -> None:
        for number in range(60):
            record = f"projects/acme/files/w{writer}-{number}"
            await files.create(record, File())
            acknowledged.add(record)

    def more_than(count: int) -> bool:
        return len(acknowledged) > count

    async with (
        Journal(records, objects),
        Announcer(records, event_for, source="luthier.dataset"),
        Subscription(nats.jetstream(), ["luthier.dataset.v1.>"], heard, durable="reader"),
        Collection(records, File, PATTERN) as files,
        Collection(records, File, PATTERN) as reader,
    ):
        writers = [asyncio.create_task(write(writer, files)) for writer in range(4)]
        for kill in range(3):
            await eventually(partial(more_than, 60 * kill))
            await server.kill()
            await server.start()
        await asyncio.gather(*writers)
        assert len(acknowledged) == 240
        for record in acknowledged:
            await files.get(record)
        await eventually(lambda: {file.name for file in reader.values()} == acknowledged, 30)
        await eventually(lambda: heard.names() == acknowledged, 60)
        await eventually(lambda: _has(objects, records, acknowledged), 30)
        generation = records.generation
    assert (await open_records(nats.jetstream(), "dataset")).generation == generation
