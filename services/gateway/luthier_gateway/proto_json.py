"""Protos from the JSON that `luthier_common.plain` shows them as.

So that a message that gains a field, or a new message, needs no change here. Protobuf's own JSON
would tell of a mistake without its place.
"""

from __future__ import annotations

from typing import cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from luthier_gateway.openai.errors import invalid

_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_INT32: "a whole number below 2 to the power of 31",
    FieldDescriptor.CPPTYPE_INT64: "a whole number below 2 to the power of 63",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
}


def fill(message: Message, given: object, path: str) -> None:
    """Set the fields of `message` from a JSON object; null means not given.

    InvalidArgument names what is unknown or of another kind by its place: `path`, and below it.
    """
    if not isinstance(given, dict):
        raise invalid(f"{path} must be an object", path)
    known = {field.name: field for field in message.DESCRIPTOR.fields}
    for key, value in given.items():
        # A key may hold half a character, which no answer can.
        place = f"{path}.{key.encode(errors='replace').decode()}"
        if key not in known:
            names = ", ".join(known)
            raise invalid(
                f"{place} is not known; known are {names}", place, reason="UNKNOWN_PARAMETER"
            )
        if value is not None:
            _set(message, cast(FieldDescriptor, known[key]), value, place)


def _set(message: Message, field: FieldDescriptor, value: object, place: str) -> None:
    if field.message_type is not None and not field.is_repeated:
        part: Message = getattr(message, field.name)
        part.SetInParent()
        fill(part, value, place)
        return
    plain = _number(field.enum_type, value, place) if field.enum_type is not None else value
    try:
        # Whoever means a number does not write true.
        if isinstance(value, bool) and field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
            raise ParseError("a truth value")
        ParseDict({field.name: plain}, message)
    except (ParseError, ValueError) as error:
        kind = _KINDS.get(field.cpp_type, "of another kind")
        raise invalid(
            f"{place} must be {'a list, each ' if field.is_repeated else ''}{kind}", place
        ) from error


def _number(kind: EnumDescriptor, value: object, place: str) -> int:
    """Return the number of an enum's value; zero is the unset one, which nobody asks for."""
    known = {one.name.lower(): one.number for one in kind.values if one.number != 0}
    if not isinstance(value, str) or value not in known:
        raise invalid(f"{place} must be one of {', '.join(known)}", place)
    return known[value]
