"""Which fact a committed record announces."""

from __future__ import annotations

from google.protobuf.json_format import Parse
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from luthier.inference.v1 import events_pb2
from luthier.inference.v1.adapter_pb2 import Adapter

_ADAPTER_EVENTS = {
    "created": events_pb2.AdapterCreated,
    "changed": events_pb2.AdapterChanged,
    "deleted": events_pb2.AdapterDeleted,
}


def event_for(name: str, value: bytes | None, revision: int) -> tuple[str, Message] | None:
    """Return subject and event for a record's new value (None: deleted)."""
    _, project, collection, resource = name.split("/")
    event: Message
    if collection == "baseModels":
        fact = "created" if value is not None else "deleted"
        kind = events_pb2.BaseModelDeleted if value is None else events_pb2.BaseModelCreated
        event = kind(name=name, revision=revision)
    elif collection == "adapters":
        fact = _adapter_fact(value)
        event = _ADAPTER_EVENTS[fact](name=name, revision=revision)
    else:
        return None
    return f"luthier.inference.v1.{collection}.{project}.{resource}.{fact}", event


def _adapter_fact(value: bytes | None) -> str:
    adapter = Parse(value or b"{}", Adapter(), ignore_unknown_fields=True)
    if value is None or adapter.HasField("delete_time"):
        return "deleted"
    # Records older than `update_time` never changed but to become tombstones.
    unchanged = adapter.update_time in (adapter.create_time, Timestamp())
    return "created" if unchanged else "changed"
