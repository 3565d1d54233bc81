"""Protos as plain JSON objects: the fields' own names, enum values in lower case.

Protobuf's own JSON would name enum values in upper case and show 64-bit numbers as text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

_Show = Callable[[Message], dict[str, Any]]


def shown(message: Message) -> dict[str, Any]:
    """Return the fields that are set."""
    return {field.name: _shown(field, value, shown) for field, value in message.ListFields()}


def complete(message: Message) -> dict[str, Any]:
    """Return all fields but those whose absence says something: 0 and false are shown, too."""
    return {
        field.name: _shown(cast(FieldDescriptor, field), getattr(message, field.name), complete)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def word(kind: EnumDescriptor, number: int) -> str:
    """Return the public word for an enum's value; of one that is newer than us, the number."""
    value = kind.values_by_number.get(number)
    return value.name.lower() if value else str(number)


def _shown(field: FieldDescriptor, value: Any, show: _Show) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_one(field, item, show) for item in value]
    return _one(field, value, show)


def _one(field: FieldDescriptor, value: Any, show: _Show) -> Any:
    if field.message_type is not None:
        return show(value)
    return word(field.enum_type, value) if field.enum_type is not None else value
