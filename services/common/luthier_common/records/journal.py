"""The journal behind the records: a second copy in the object store, within about a second.

NATS is never the only copy. `Journal` follows a bucket, `guard_against_loss` keeps a service from
starting on an empty one, `rebuild` brings the records back.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import Self

from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from luthier_common.errors import FailedPrecondition, PlatformError
from luthier_common.objects.port import ObjectStore
from luthier_common.records.followers import Follower, stop
from luthier_common.records.jetstream import JetStreamRecords
from luthier_common.records.port import Entry
from luthier_common.records.segments import (
    Segment,
    fold,
    list_segments,
    merge,
    write_segment,
)

_log = logging.getLogger(__name__)

_CONSUMER = "journal"
_GATHER_SECONDS = 0.5
_FLUSH_SECONDS = 5.0
_POLL_SECONDS = 0.05
_SEGMENTS = 256
_PARALLEL_WRITES = 16


class Journal:
    """Appends every committed record to the object store, as an async context manager.

    Beyond `segments` files, their state is written as one and they are deleted. Leaving it waits,
    for at most five seconds, until what was committed before is in the object store.
    """

    def __init__(
        self, records: JetStreamRecords, objects: ObjectStore, *, segments: int = _SEGMENTS
    ) -> None:
        self._records = records
        self._objects = objects
        self._limit = segments
        self._written = segments  # so that the first batch looks at what is there
        config = ConsumerConfig(durable_name=_CONSUMER, ack_wait=60.0)
        self._follower = Follower(
            records.js,
            records.stream,
            config,
            self._append,
            gather=_GATHER_SECONDS,
            # Revisions of another generation must never get into this one's folder.
            before=records.check_generation,
        )

    async def __aenter__(self) -> Self:
        await self._follower.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        # The follower gathers for a while before it writes: stopped at once, it would leave the
        # last records in NATS only, until the service's next start. A task, since nats-py may
        # lose the cancellation of `asyncio.timeout`; see `stop`.
        flush = asyncio.create_task(self._flush(), name=f"flush journal of {self._records.owner}")
        try:
            await asyncio.wait([flush], timeout=_FLUSH_SECONDS)
            if not flush.done():
                _log.warning("%s are not all in the journal yet", self._records.describe())
        finally:
            await stop(flush)
            await self._follower.__aexit__()

    async def _flush(self) -> None:
        """Wait until everything committed before now is in the journal, or NATS refuses to say."""
        try:
            last = await self._records.last_revision()
            # As NATS knows it: another replica may have taken some of the messages.
            while True:
                if await self._records.acknowledged_revision(_CONSUMER) >= last:
                    return
                await asyncio.sleep(_POLL_SECONDS)
        except PlatformError as error:
            _log.warning("closing the journal without flushing it: %s", error)

    async def _append(self, messages: Sequence[Msg]) -> Sequence[Msg]:
        entries = [self._records.entry_of(message) for message in messages]
        await write_segment(self._objects, self._records.owner, self._records.generation, entries)
        self._written += 1
        if self._written > self._limit:
            try:
                self._written = await self._compact()
            except PlatformError as error:
                _log.warning("compacting the journal failed, will be tried again: %s", error)
        return messages

    async def _compact(self) -> int:
        """Return how many segments there are now."""
        owner, generation = self._records.owner, self._records.generation
        segments = await list_segments(self._objects, owner, generation)
        if len(segments) <= self._limit:
            return len(segments)
        # Deletions stay in: a segment written late may still hold what they deleted.
        state = await fold(self._objects, segments)
        await write_segment(self._objects, owner, generation, state.values())
        await _delete(self._objects, segments)
        return 1


async def guard_against_loss(objects: ObjectStore, records: JetStreamRecords) -> None:
    """Raise FailedPrecondition if the journal knows of records that the bucket has lost.

    Call before anything is written: a write would hide the loss.
    """
    segments = await list_segments(objects, records.owner)
    if not segments:
        return
    last = max(
        (segment.last for segment in segments if segment.generation == records.generation),
        default=None,
    )
    if last is None or last > await records.last_revision():
        raise FailedPrecondition(
            f"{records.describe()} are lost or older than their journal in "
            f"{objects.describe()}; stop the service and run `luthier records rebuild`",
            reason="RECORDS_LOST",
            metadata={"owner": records.owner},
        )


async def rebuild(objects: ObjectStore, records: JetStreamRecords) -> int:
    """Make the bucket anew from its journal and return the number of records restored.

    The owner's service must be stopped. What the bucket still has is kept where it is newer than
    the journal. May be run again after it was interrupted. FailedPrecondition if there is no
    journal; DataLoss if it is damaged.
    """
    segments = await list_segments(objects, records.owner)
    if not segments:
        raise FailedPrecondition(
            f"there is no journal of {records.describe()}", reason="JOURNAL_MISSING"
        )
    newest = max(segment.generation for segment in segments)
    state = await fold(objects, [part for part in segments if part.generation == newest])
    if records.generation == newest:
        survivors = await _current(records)
        merge(state, survivors)
        # Until the end these exist nowhere else.
        await write_segment(objects, records.owner, newest, survivors)
    await records.recreate()
    if records.generation <= newest:
        raise FailedPrecondition(
            "the clock of NATS is behind the journal's; set it right and run this again",
            reason="CLOCK_BEHIND",
        )
    restored = await _restore(records, state)
    # This segment declares the new generation complete: `guard_against_loss` waits for it.
    await write_segment(objects, records.owner, records.generation, restored)
    await _delete(objects, segments)
    return len(restored)


async def _current(records: JetStreamRecords) -> list[Entry]:
    found: list[Entry] = []
    async for entry in records.watch(">"):
        if entry is None:
            break
        found.append(entry)
    return found


async def _restore(records: JetStreamRecords, state: dict[str, Entry]) -> list[Entry]:
    live = [(entry.name, entry.value) for entry in state.values() if entry.value is not None]

    async def restore(name: str, value: bytes) -> Entry:
        return Entry(name, value, await records.create(name, value))

    restored: list[Entry] = []
    for start in range(0, len(live), _PARALLEL_WRITES):
        batch = itertools.islice(live, start, start + _PARALLEL_WRITES)
        restored += await asyncio.gather(*(restore(name, value) for name, value in batch))
    return restored


async def _delete(objects: ObjectStore, segments: Sequence[Segment]) -> None:
    for segment in segments:
        await objects.delete(segment.key)
