"""Announces committed records: the record is the outbox, so a fact may be late but not lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Self

from google.protobuf.message import Message
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from luthier_common.events.stream import publish_event
from luthier_common.records.followers import Follower
from luthier_common.records.jetstream import JetStreamRecords

_log = logging.getLogger(__name__)

EventFor = Callable[[str, bytes | None, int], tuple[str, Message] | None]
"""Name, value (None: deleted) and revision of a record to subject and event, or None for none."""


class Announcer:
    """Publishes an event for each committed record, as an async context manager.

    At least once; a record that changes quickly may be announced with its latest revision only.
    """

    def __init__(self, records: JetStreamRecords, event_for: EventFor, *, source: str) -> None:
        self._records = records
        self._event_for = event_for
        self._source = source
        config = ConsumerConfig(durable_name="announcer", ack_wait=30.0)
        self._follower = Follower(
            records.js,
            records.stream,
            config,
            self._announce_all,
            before=records.check_generation,
        )

    async def __aenter__(self) -> Self:
        await self._follower.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._follower.__aexit__()

    async def _announce_all(self, messages: Sequence[Msg]) -> Sequence[Msg]:
        outcomes = await asyncio.gather(*map(self._announce, messages), return_exceptions=True)
        done = []
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                _log.error("announcing %s failed: %r", message.subject, outcome)
            else:
                done.append(message)
        return done

    async def _announce(self, message: Msg) -> None:
        entry = self._records.entry_of(message)
        announced = self._event_for(entry.name, entry.value, entry.revision)
        if announced is None:
            return
        subject, event = announced
        records = self._records
        await publish_event(
            records.js,
            subject,
            event,
            # The same for every attempt, so NATS drops what it already has.
            event_id=f"{records.owner}-{records.generation}-{entry.revision}",
            source=self._source,
        )
