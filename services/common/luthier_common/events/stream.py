"""The one stream of events, and how a fact travels on it."""

from __future__ import annotations

import contextlib

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig

from luthier_common.nats_client import platform_error

STREAM = "EVENTS"
SUBJECTS = "luthier.>"

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
    try:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await js.stream_info(STREAM)
            return
        await js.add_stream(config)
    except (nats.errors.Error, OSError) as error:
        raise platform_error(error, "opening the stream of events") from error
