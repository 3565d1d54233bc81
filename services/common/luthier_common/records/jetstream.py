"""Records in a NATS JetStream key-value bucket, one per owner."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import (
    ConsumerConfig,
    DeliverPolicy,
    Header,
    KeyValueConfig,
    RawStreamMsg,
    StreamInfo,
)

from luthier_common.errors import FailedPrecondition, Unavailable, not_found
from luthier_common.nats_client import (
    NO_MESSAGE_FOUND,
    TRANSIENT,
    WRONG_LAST_SEQUENCE,
    platform_error,
)
from luthier_common.records.followers import pull
from luthier_common.records.memory import already_exists, stale_revision
from luthier_common.records.port import Entry

T = TypeVar("T")

_ATTEMPT_SECONDS = 2.0
_OPERATION_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
_OPERATION_HEADER = "KV-Operation"
_DELETED = "DEL"
_GONE = frozenset({_DELETED, "PURGE"})


async def open_records(js: JetStreamContext, owner: str, *, replicas: int = 1) -> JetStreamRecords:
    """Open the owner's bucket, creating it if absent; Unavailable while NATS is away."""
    records = JetStreamRecords(js, owner, replicas)
    await records.open()
    return records


class JetStreamRecords:
    """A RecordStore that many processes may write; see `open_records`."""

    def __init__(self, js: JetStreamContext, owner: str, replicas: int) -> None:
        self.js = js
        self.owner = owner
        self.stream = f"KV_{owner}"
        self.generation = ""
        """Identifies this incarnation of the bucket: revisions compare only within one."""
        self._replicas = replicas
        self._prefix = f"$KV.{owner}."

    async def open(self) -> None:
        """Create the bucket if absent and learn its generation."""
        await self._steadily(self._create_if_absent, "opening records")
        self.generation = _generation(await self._info())

    async def recreate(self) -> None:
        """Delete the bucket with everything in it and begin a new generation."""
        await self._steadily(lambda: self.js.delete_key_value(self.owner), "deleting records")
        await self.open()

    async def get(self, name: str) -> Entry:
        """See RecordStore."""
        entry = await self._read(name)
        if entry is None or entry.value is None:
            raise not_found(name)
        return entry

    async def create(self, name: str, value: bytes) -> int:
        """See RecordStore."""
        expected = 0
        while True:
            revision = await self._write(name, value, expected)
            if revision is not None:
                return revision
            entry = await self._read(name)
            if entry is not None and entry.value is not None:
                raise already_exists(name)
            # Deleted before: a new record takes the place of exactly that deletion.
            expected = 0 if entry is None else entry.revision

    async def update(self, name: str, value: bytes, *, revision: int) -> int:
        """See RecordStore."""
        return await self._replace(name, value, revision)

    async def delete(self, name: str, *, revision: int) -> int:
        """See RecordStore."""
        return await self._replace(name, None, revision)

    async def watch(self, pattern: str) -> AsyncGenerator[Entry | None, None]:
        """See RecordStore."""
        # Acknowledged one by one: what a broken connection swallowed is delivered again.
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            filter_subject=self._subject(pattern),
            ack_wait=5.0,
            inactive_threshold=60.0,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            async with pull(self.js, self.stream, config) as source:
                loaded = source.waiting == 0
                if loaded:
                    yield None
                while True:
                    for message in await source.next(gather=0.0):
                        yield self.entry_of(message)
                        await message.ack()
                        if not loaded and message.metadata.num_pending == 0:
                            loaded = True
                            yield None
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise platform_error(error, f"watching {self.describe()}") from error

    def describe(self) -> str:
        """See RecordStore."""
        return f"records of {self.owner} in NATS"

    def entry_of(self, message: Msg) -> Entry:
        """Return the entry a message of the bucket's stream carries."""
        name = self._name(message.subject)
        revision = message.metadata.sequence.stream
        return _entry(name, message.data, message.headers, revision)

    async def last_revision(self) -> int:
        """Return the highest revision the bucket has given out; 0 when never written."""
        return (await self._info()).state.last_seq

    async def acknowledged_revision(self, consumer: str) -> int:
        """Return the revision up to which the durable consumer has acknowledged everything."""
        info = await self._steadily(
            lambda: self.js.consumer_info(self.stream, consumer), "reading a consumer of records"
        )
        return info.ack_floor.stream_seq if info.ack_floor is not None else 0

    async def check_generation(self) -> None:
        """Raise FailedPrecondition if the bucket was deleted and made anew meanwhile."""
        if _generation(await self._info()) != self.generation:
            raise FailedPrecondition(
                f"{self.describe()} were recreated under a running process; restart it",
                reason="RECORDS_RECREATED",
            )

    async def _create_if_absent(self) -> None:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await self.js.stream_info(self.stream)
            return
        config = KeyValueConfig(bucket=self.owner, history=1, replicas=self._replicas)
        await self.js.create_key_value(config)

    async def _info(self) -> StreamInfo:
        return await self._steadily(lambda: self.js.stream_info(self.stream), "reading records")

    async def _read(self, name: str) -> Entry | None:
        message = await self._latest(name)
        if message is None:
            return None
        return _entry(name, message.data or b"", message.headers, message.seq or 0)

    async def _latest(self, name: str) -> RawStreamMsg | None:
        # Asks the leader, never a replica that may lag behind (no direct get).
        try:
            return await self._steadily(
                lambda: self.js.get_msg(self.stream, subject=self._subject(name)),
                f"reading {name}",
                let_through=frozenset({NO_MESSAGE_FOUND}),
            )
        except nats.js.errors.APIError:
            return None

    async def _replace(self, name: str, value: bytes | None, revision: int) -> int:
        written = await self._write(name, value, revision)
        if written is None:
            raise stale_revision(name)
        return written

    async def _write(self, name: str, value: bytes | None, expected: int) -> int | None:
        """Write over exactly the revision `expected` (0: never written); None if not the latest."""
        write_id = secrets.token_hex(16)
        headers: dict[str, str] = {
            Header.MSG_ID: write_id,
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected),
        }
        if value is None:
            headers[_OPERATION_HEADER] = _DELETED
        subject, attempts = self._subject(name), 0

        async def publish() -> int:
            nonlocal attempts
            attempts += 1
            # A copy, since the client adds to it.
            ack = await self.js.publish(
                subject, value or b"", timeout=_ATTEMPT_SECONDS, headers=dict(headers)
            )
            return ack.seq

        try:
            return await self._steadily(publish, f"writing {name}", let_through=WRONG_LAST_SEQUENCE)
        except nats.js.errors.APIError as error:
            if attempts == 1:
                return None
            return await self._outcome(name, write_id, error)

    async def _outcome(self, name: str, write_id: str, error: Exception) -> int | None:
        """Find out whether an earlier attempt, left without an answer, is what is stored now."""
        latest = await self._latest(name)
        if latest is not None and (latest.headers or {}).get(Header.MSG_ID) == write_id:
            return latest.seq
        # Another's write is there; ours came before it, or never.
        raise Unavailable(
            f"writing {name} has no known outcome", reason="OUTCOME_UNKNOWN"
        ) from error

    async def _steadily(
        self,
        attempt: Callable[[], Awaitable[T]],
        what: str,
        *,
        let_through: frozenset[int] = frozenset(),
    ) -> T:
        """Repeat an idempotent attempt through short outages of NATS; then raise our errors."""
        deadline = asyncio.get_running_loop().time() + _OPERATION_SECONDS
        while True:
            try:
                return await attempt()
            except (nats.errors.Error, OSError) as error:
                if isinstance(error, nats.js.errors.APIError) and error.err_code in let_through:
                    raise
                translated = platform_error(error, what)
                late = asyncio.get_running_loop().time() > deadline
                if late or not isinstance(error, TRANSIENT):
                    raise translated from error
            await asyncio.sleep(_PAUSE_SECONDS)

    def _subject(self, name: str) -> str:
        return self._prefix + name.replace("/", ".")

    def _name(self, subject: str) -> str:
        return subject.removeprefix(self._prefix).replace(".", "/")


def _generation(info: StreamInfo) -> str:
    if info.created is None:
        raise Unavailable("NATS does not say when the stream was created", reason="NATS_ERROR")
    return f"{int(info.created.timestamp() * 1_000_000):020d}"


def _entry(name: str, data: bytes, headers: dict[str, str] | None, revision: int) -> Entry:
    gone = headers is not None and headers.get(_OPERATION_HEADER) in _GONE
    return Entry(name, None if gone else data, revision)
