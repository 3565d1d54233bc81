"""Reading events: an ephemeral bell for this process, or a durable one that misses nothing."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self, TypeVar

from google.protobuf.message import Message
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy, Header

from luthier_common.errors import InvalidArgument
from luthier_common.events.stream import SOURCE, STREAM, TIME, TYPE
from luthier_common.records.followers import Follower

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

_MAX_DELIVERIES = 50


@dataclass(frozen=True)
class Event:
    """A fact that an owner announced."""

    id: str
    subject: str
    type: str
    """Full proto name, such as `luthier.dataset.v1.FileCreated`."""
    source: str
    time: datetime
    """When it was announced."""
    data: bytes

    def parse(self, message_type: builtins.type[M]) -> M:
        """Return the payload; InvalidArgument if the event is of another type."""
        if message_type.DESCRIPTOR.full_name != self.type:
            raise InvalidArgument(
                f"{self.subject} is a {self.type}, not a {message_type.DESCRIPTOR.full_name}",
                reason="WRONG_EVENT_TYPE",
            )
        return message_type.FromString(self.data)


class Subscription:
    """Hands events one by one to `handle`, as an async context manager.

    With `durable`, from the oldest kept event on and across restarts (one name per reader);
    without, from now on, except what is announced while NATS is away. At least once, so `handle`
    must be idempotent. When it raises, the event comes again after a growing pause, at most 50
    times.
    """

    def __init__(
        self,
        js: JetStreamContext,
        subjects: Sequence[str],
        handle: Callable[[Event], Awaitable[None]],
        *,
        durable: str | None = None,
    ) -> None:
        self._handle = handle
        config = ConsumerConfig(
            durable_name=durable,
            filter_subjects=list(subjects),
            deliver_policy=DeliverPolicy.NEW if durable is None else DeliverPolicy.ALL,
            ack_wait=60.0,
            inactive_threshold=60.0 if durable is None else None,
        )
        self._follower = Follower(js, STREAM, config, self._take, batch=1)

    async def __aenter__(self) -> Self:
        await self._follower.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._follower.__aexit__()

    async def _take(self, messages: Sequence[Msg]) -> Sequence[Msg]:
        for message in messages:
            try:
                await self._handle(_event(message))
            except Exception:
                if message.metadata.num_delivered < _MAX_DELIVERIES:
                    raise
                _log.exception("event %s is given up", message.subject)
        return messages


def _event(message: Msg) -> Event:
    headers = message.headers or {}
    try:
        time = datetime.fromisoformat(headers.get(TIME, ""))
    except ValueError:
        time = datetime.fromtimestamp(0, UTC)
    return Event(
        id=headers.get(Header.MSG_ID, ""),
        subject=message.subject,
        type=headers.get(TYPE, ""),
        source=headers.get(SOURCE, ""),
        time=time,
        data=message.data,
    )
