"""Which fact a committed record announces."""

from __future__ import annotations

from google.protobuf.json_format import Parse
from google.protobuf.message import Message
from luthier.inference.v1 import events_pb2
from luthier.inference.v1.adapter_pb2 import Adapter


def event_for(name: str, value: bytes | None, revision: int) -> tuple[str, Message] | None:
    """Return subject and event for a record's new value (None: deleted)."""
    _, project, collection, resource = name.split("/")
    deleted = value is None
    event: Message
    if collection == "baseModels":
        kind = events_pb2.BaseModelDeleted if deleted else events_pb2.BaseModelCreated
        event = kind(name=name, revision=revision)
    elif collection == "adapters":
        # Adapters change once: when they become tombstones.
        deleted = deleted or Parse(value or b"{}", Adapter(), True).HasField("delete_time")
        made = events_pb2.AdapterDeleted if deleted else events_pb2.AdapterCreated
        event = made(name=name, revision=revision)
    else:
        return None
    fact = "deleted" if deleted else "created"
    return f"luthier.inference.v1.{collection}.{project}.{resource}.{fact}", event
