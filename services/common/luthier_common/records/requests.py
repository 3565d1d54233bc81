"""Requests with an id: repeated, they return what the first one made (AIP-155)."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import Message

from luthier_common.errors import AlreadyExists
from luthier_common.records.collection import Collection

M = TypeVar("M", bound=Message)


def made_before(records: Collection[M], parent: str, request_id: str) -> M | None:
    """Return what a request of that id has made in `parent`; nothing for an empty id.

    `M` has a field `request_id`. AlreadyExists when it has been deleted since.
    """
    if not request_id:
        return None
    found: list[Any] = records.values(parent)
    made: M | None = next((record for record in found if record.request_id == request_id), None)
    if made is not None:
        _check_kept(made)
    return made


async def create_once(records: Collection[M], record: Any) -> M:
    """Store `record`, or return the one that the same request has stored.

    The same request may come twice at once, or again after an answer that got lost.
    AlreadyExists when another has taken the name, or when the record has been deleted since.
    """
    try:
        return await records.create(record.name, record)
    except AlreadyExists:
        existing: Any = await records.get(record.name)
        if record.request_id and existing.request_id == record.request_id:
            made: M = existing
            _check_kept(made)
            return made
        raise


def _check_kept(record: Any) -> None:
    """Refuse a tombstone; not every kind of record leaves one."""
    if "delete_time" in record.DESCRIPTOR.fields_by_name and record.HasField("delete_time"):
        raise AlreadyExists(
            f"{record.name} was made by this request and has been deleted",
            reason="RESOURCE_DELETED",
            metadata={"resource": record.name},
        )
