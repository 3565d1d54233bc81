"""Which fact each change of a record announces."""

from __future__ import annotations

from google.protobuf.message import Message
from luthier.dataset.v1.events_pb2 import DatasetChanged, DatasetDeleted, FileCreated, FileDeleted

_Fact = type[FileCreated] | type[FileDeleted] | type[DatasetChanged] | type[DatasetDeleted]

_FACTS: dict[tuple[str, bool], tuple[str, _Fact]] = {
    ("files", True): ("created", FileCreated),
    ("files", False): ("deleted", FileDeleted),
    ("datasets", True): ("changed", DatasetChanged),
    ("datasets", False): ("deleted", DatasetDeleted),
}
"""By collection and whether the record exists: last part of the subject, and the event."""


def event_for(name: str, value: bytes | None, revision: int) -> tuple[str, Message] | None:
    """Return subject and event for a new revision of the record `name`; None: no fact of ours."""
    _, project, collection, resource = name.split("/")
    fact = _FACTS.get((collection, value is not None))
    if fact is None:
        return None
    verb, message_type = fact
    subject = f"luthier.dataset.v1.{collection}.{project}.{resource}.{verb}"
    return subject, message_type(name=name, revision=revision)
