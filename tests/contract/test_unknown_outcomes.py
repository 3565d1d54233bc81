"""Writes to NATS whose answer gets lost: never applied twice, never reported wrongly."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from luthier_common.errors import InvalidArgument, Unavailable
from luthier_common.nats_client import open_nats
from luthier_common.records import jetstream
from luthier_common.records.jetstream import JetStreamRecords, open_records
from nats.aio.client import Client
from nats.js.api import PubAck

from tests.support.nats_server import nats_connection

NAME = "projects/acme/files/one"


class Deaf:
    """A JetStream whose first answers to `publish` do not arrive, although it was done."""

    def __init__(self, js: Any, lost: int, overtaken_by: bytes | None = None) -> None:
        self._js = js
        self._lost = lost
        self._overtaken_by = overtaken_by
        self.published = 0

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._js, attribute)

    async def publish(self, subject: str, *args: Any, **named: Any) -> PubAck:
        self.published += 1
        ack: PubAck = await self._js.publish(subject, *args, **named)
        if self.published > self._lost:
            return ack
        if self._overtaken_by is not None:
            await self._js.publish(subject, self._overtaken_by)
        raise nats.errors.TimeoutError


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with nats_connection(tmp_path) as connected:
        yield connected


@pytest.fixture
async def records(client: Client) -> JetStreamRecords:
    return await open_records(client.jetstream(), "owner")


async def test_a_write_whose_answer_was_lost_is_recognised(records: JetStreamRecords) -> None:
    deaf = Deaf(records.js, lost=1)
    records.js = deaf  # type: ignore[assignment]
    first = await records.create(NAME, b"1")
    assert deaf.published == 2
    assert (await records.get(NAME)).revision == first
    records.js = Deaf(deaf, lost=1)  # type: ignore[assignment]
    second = await records.update(NAME, b"2", revision=first)
    assert second == first + 1
    assert (await records.get(NAME)).value == b"2"


async def test_a_lost_answer_followed_by_anothers_write_is_no_conflict(
    records: JetStreamRecords,
) -> None:
    # "Conflict" would make the caller apply its change a second time.
    revision = await records.create(NAME, b"1")
    records.js = Deaf(records.js, lost=1, overtaken_by=b"3")  # type: ignore[assignment]
    with pytest.raises(Unavailable) as caught:
        await records.update(NAME, b"2", revision=revision)
    assert caught.value.reason == "OUTCOME_UNKNOWN"


async def test_without_any_answer_the_outcome_is_unknown_in_time(
    records: JetStreamRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "_OPERATION_SECONDS", 0.3)

    class Mute(Deaf):
        async def publish(self, subject: str, *args: Any, **named: Any) -> PubAck:
            raise nats.errors.TimeoutError

    records.js = Mute(records.js, lost=0)  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        await records.create(NAME, b"1")


async def test_a_vanished_bucket_is_no_absent_record(
    records: JetStreamRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "_OPERATION_SECONDS", 0.3)
    await records.create(NAME, b"1")
    await records.js.delete_key_value("owner")
    with pytest.raises(Unavailable):
        await records.get(NAME)
    with pytest.raises(Unavailable):
        await records.create(NAME, b"1")


async def test_a_record_too_large_for_nats_is_refused(records: JetStreamRecords) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await records.create(NAME, b'"' + b"x" * (9 << 20) + b'"')
    assert caught.value.reason == "RECORD_TOO_LARGE"


async def test_no_server_is_said_in_time_and_without_the_password() -> None:
    with pytest.raises(Unavailable) as caught:
        async with open_nats("nats://me:secret@127.0.0.1:1", name="test", timeout=0.5):
            pass
    assert "127.0.0.1:1" in caught.value.message
    assert "secret" not in caught.value.message
