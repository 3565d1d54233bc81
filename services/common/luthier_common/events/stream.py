"""The one stream of events, and how a fact travels on it."""

from __future__ import annotations

from datetime import UTC, datetime

import nats.js.errors
from google.protobuf.message import Message
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, StreamConfig

from luthier_common.nats_client import translated

STREAM = "EVENTS"
SUBJECTS = "luthier.*.v1.>"
"""Subjects of events: `luthier.{service}.v1.{collection}.{project}.{id}.{fact}`."""

TYPE = "Luthier-Type"
"""Header: full proto name of the payload, such as `luthier.dataset.v1.FileCreated`."""
SOURCE = "Luthier-Source"
"""Header: who announced it."""
TIME = "Luthier-Time"
"""Header: when it was announced, RFC 3339."""

_KEPT_SECONDS = 7 * 24 * 3600.0
_DUPLICATES_SECONDS = 600.0
_MAX_BYTES = 1 << 30


async def ensure_stream(js: JetStreamContext, *, replicas: int = 1) -> None:
    """Create the stream if absent; Unavailable while NATS is away.

    Events are bells and records the truth, so old ones may go: after a week, or beyond 1 GiB.
    """
    config = StreamConfig(
        name=STREAM,
        subjects=[SUBJECTS],
        max_age=_KEPT_SECONDS,
        max_bytes=_MAX_BYTES,
        discard=DiscardPolicy.OLD,
        duplicate_window=_DUPLICATES_SECONDS,
        num_replicas=replicas,
    )
    await open_stream(js, config)


async def open_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Create a stream if absent, else see that it has its subjects; Unavailable without NATS."""
    with translated(f"opening the stream {config.name}"):
        try:
            found = (await js.stream_info(config.name or "")).config
        except nats.js.errors.NotFoundError:
            await js.add_stream(config)
        else:
            if found.subjects != config.subjects:
                await js.update_stream(found.evolve(subjects=config.subjects))


async def publish_event(
    js: JetStreamContext, subject: str, event: Message, *, event_id: str, source: str
) -> None:
    """Announce a fact; NATS drops what it already has under that id."""
    headers: dict[str, str] = {
        Header.MSG_ID: event_id,
        TYPE: event.DESCRIPTOR.full_name,
        SOURCE: source,
        TIME: datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    await js.publish(subject, event.SerializeToString(), stream=STREAM, headers=headers)
