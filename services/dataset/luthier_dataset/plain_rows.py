"""The fast check of training rows: those without tools or unknown keys, which are nearly all.

They are checked while they are decoded. A sound row may be passed over, to be looked at by
`check_row`; one that `check_row` refuses is never taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from luthier_dataset.row_rules import Shape


def is_plain(line: bytes, shape: Shape) -> bool:
    """Tell whether a line is a sound row of a shape, so plainly that no rule needs a look."""
    decoder, teaches = _CHECKS[shape]
    try:
        return teaches(decoder.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class _Message(msgspec.Struct, tag_field="role", forbid_unknown_fields=True, gc=False):
    content: str
    name: str = ""


class _System(_Message, tag="system"):
    pass


class _Developer(_Message, tag="developer"):
    pass


class _User(_Message, tag="user"):
    pass


class _Assistant(_Message, tag="assistant"):
    weight: Literal[0, 1] = 1


class _Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_System | _Developer | _User | _Assistant]


class _Text(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _Pair(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt: str
    completion: str


class _Preference(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    input: _Chat
    preferred_output: tuple[_Assistant]
    non_preferred_output: tuple[_Assistant]


def _plain_chat(row: _Chat) -> bool:
    if not row.messages:
        return False
    last = row.messages[-1]
    return (
        type(last) is _Assistant
        and last.weight == 1
        and bool(last.content.strip())
        and any(type(message) is _User for message in row.messages)
    )


def _plain_preference(row: _Preference) -> bool:
    (better,), (worse,) = row.preferred_output, row.non_preferred_output
    return (
        bool(row.input.messages)
        and type(row.input.messages[-1]) is _User
        and bool(better.content.strip())
        and bool(worse.content.strip())
        and better.content != worse.content
    )


_CHECKS: dict[Shape, tuple[msgspec.json.Decoder[Any], Callable[[Any], bool]]] = {
    Shape.CHAT: (msgspec.json.Decoder(_Chat), _plain_chat),
    Shape.TEXT: (msgspec.json.Decoder(_Text), lambda row: bool(row.text.strip())),
    Shape.PAIR: (msgspec.json.Decoder(_Pair), lambda row: bool(row.completion.strip())),
    Shape.PREFERENCE: (msgspec.json.Decoder(_Preference), _plain_preference),
}
