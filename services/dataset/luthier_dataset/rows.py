"""The row format of training files: the platform's single definition of it.

A training file is UTF-8 text, one JSON object a line, lines ended by `\\n` (a `\\r` before it and
a byte order mark at the start are tolerated, and so are empty lines at the end):

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

Roles are `system`, `user` and `assistant`; contents are strings; the last message is the
assistant's and not empty; a user's message comes before it. An assistant's message with `weight` 0
is read, not learned. Other keys are ignored, except those that ask for something the training does
not do, which are refused.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import NoReturn, TypedDict

from luthier_common.errors import InvalidArgument

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Longest line; bounds what a check holds in memory."""

_ROLES = ("system", "user", "assistant")
_UNSUPPORTED_ROW_KEYS = ("tools", "functions", "parallel_tool_calls")
_UNSUPPORTED_MESSAGE_KEYS = ("tool_calls", "function_call")


class ChatMessage(TypedDict):
    """One message of a row."""

    role: str
    content: str


def format_row(messages: Sequence[ChatMessage]) -> bytes:
    """Return the line of a row, `\\n` included."""
    return json.dumps({"messages": list(messages)}, ensure_ascii=False).encode() + b"\n"


class RowChecker:
    """Checks a training file while its bytes pass by: `feed` each piece, then `finish`.

    Both raise InvalidArgument for the first bad line, as in `line 17: is not valid JSON (…)`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._line = 0
        self._blank: int | None = None
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Check every line that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > MAX_LINE_BYTES:
            _refuse(self._line + 1, f"is longer than {MAX_LINE_BYTES} bytes")

    def finish(self) -> int:
        """Check the last line and return the number of rows."""
        if self._rest:
            self._take(self._rest)
        if self.rows == 0:
            raise InvalidArgument("the file holds no rows", reason="EMPTY_FILE", field="file")
        return self.rows

    def _take(self, line: bytes) -> None:
        self._line += 1
        if self._line == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            self._blank = self._blank or self._line
            return
        if self._blank is not None:
            _refuse(self._blank, "is empty")
        check_row(line, self._line)
        self.rows += 1


def check_row(line: bytes, number: int) -> None:
    """Refuse a line that is not a row; `number` counts from 1."""
    if len(line) > MAX_LINE_BYTES:
        _refuse(number, f"is longer than {MAX_LINE_BYTES} bytes")
    row = _parse(line, number)
    if not isinstance(row, dict):
        _refuse(number, "is not a JSON object")
    _refuse_keys(row, _UNSUPPORTED_ROW_KEYS, number, "the row")
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse(number, "has no messages")
    roles = [_check_message(message, number, place + 1) for place, message in enumerate(messages)]
    _check_roles(roles, number)
    answers = [message for message in messages if message["role"] == "assistant"]
    if all(message.get("weight", 1) == 0 for message in answers):
        _refuse(number, "has no answer to learn: every weight is 0")
    if not messages[-1]["content"].strip():
        _refuse(number, "the last message is empty, so there is nothing to learn")


def _parse(line: bytes, number: int) -> object:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(number, f"is not UTF-8 text (byte {error.start + 1} of the line)")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        _refuse(number, f"is not valid JSON ({error.msg}, column {error.colno})")
    except (ValueError, RecursionError):
        _refuse(number, "is not valid JSON (a number or a nesting is out of bounds)")


def _check_message(message: object, number: int, place: int) -> str:
    if not isinstance(message, dict):
        _refuse(number, f"message {place} is not a JSON object")
    _refuse_keys(message, _UNSUPPORTED_MESSAGE_KEYS, number, f"message {place}")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        _refuse(number, f"message {place} has the unknown role {json.dumps(role)[:40]}")
    if not isinstance(content, str):
        _refuse(number, f"the content of message {place} is not a string")
    try:
        content.encode()
    except UnicodeEncodeError:
        _refuse(number, f"the content of message {place} is not valid Unicode")
    if message.get("weight", 1) not in (0, 1) or ("weight" in message and role != "assistant"):
        _refuse(number, f"message {place} has a weight that is not an assistant's 0 or 1")
    return role


def _check_roles(roles: list[str], number: int) -> None:
    if "assistant" not in roles:
        _refuse(number, "has no assistant message")
    if roles[-1] != "assistant":
        _refuse(number, "the last message is not the assistant's")
    if "user" not in roles:
        _refuse(number, "has no user message")


def _refuse_keys(part: dict[str, object], keys: Sequence[str], number: int, place: str) -> None:
    for key in keys:
        if key in part:
            _refuse(number, f"{place} has the key {json.dumps(key)}, which is not supported")


def _refuse(number: int, what: str) -> NoReturn:
    raise InvalidArgument(
        f"line {number}: {what}",
        reason="INVALID_ROW",
        field="file",
        metadata={"line": str(number)},
    )
