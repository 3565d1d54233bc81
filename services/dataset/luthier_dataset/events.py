"""Which fact each change of a record announces."""

from __future__ import annotations

import json

from google.protobuf.message import Message
from luthier.dataset.v1.events_pb2 import (
    DatasetChanged,
    DatasetDeleted,
    FileCreated,
    FileDeleted,
    UploadChanged,
)

_Fact = (
    type[FileCreated]
    | type[FileDeleted]
    | type[UploadChanged]
    | type[DatasetChanged]
    | type[DatasetDeleted]
)

_FACTS: dict[tuple[str, bool], tuple[str, _Fact]] = {
    ("files", True): ("created", FileCreated),
    ("files", False): ("deleted", FileDeleted),
    ("uploads", True): ("changed", UploadChanged),
    ("datasets", True): ("changed", DatasetChanged),
    ("datasets", False): ("deleted", DatasetDeleted),
}
"""By collection and whether the resource is there: last part of the subject, and the event."""


def event_for(name: str, value: bytes | None, revision: int) -> tuple[str, Message] | None:
    """Return subject and event for a new revision of the record `name`; None: no fact of ours."""
    match name.split("/"):
        case ["projects", project, collection, resource]:
            fact = _FACTS.get((collection, value is not None and not _is_tombstone(value)))
        case _:
            fact = None
    if fact is None:
        return None
    verb, message_type = fact
    subject = f"luthier.dataset.v1.{collection}.{project}.{resource}.{verb}"
    return subject, message_type(name=name, revision=revision)


def _is_tombstone(value: bytes) -> bool:
    """Whether a record, JSON text, is what a deletion has left."""
    return "deleteTime" in json.loads(value)
