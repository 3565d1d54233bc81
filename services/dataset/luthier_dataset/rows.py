"""The row format of training files: the platform's single definition of it.

A training file is UTF-8 text, one JSON object a line, lines ended by `\\n` (a `\\r` before it and
a byte order mark at the start are tolerated, and so are empty lines at the end). All rows of a
file have the shape of its first:

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"text": "…"}
    {"prompt": "…", "completion": "…"}
    {"input": {"messages": […]}, "preferred_output": [{…}], "non_preferred_output": [{…}]}

They are OpenAI's but for `text`, our extension for texts that are learned whole.

Roles are `system`, `developer`, `user`, `assistant` and `tool`; contents are strings; the last
message is the assistant's and says something; a user's message comes before it. An assistant's
message with `weight` 0 is read, not learned. Its `tool_calls` stand in place of its content or
beside it; a message of role `tool` answers one of the calls right before it, by `tool_call_id`,
and all are answered before the talk goes on. A chat or an input may have `tools` and
`parallel_tool_calls`. In a preference row the input ends with a message to answer, and each output
is one message of the assistant. Keys without a value (null) count as absent. Other keys are
ignored, except those that ask for something the training does not do, which are refused.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from luthier_common.errors import InvalidArgument

from luthier_dataset.plain_rows import is_plain
from luthier_dataset.row_rules import OUTPUTS, BadRow, Shape, check_row, shape_of

__all__ = [
    "MAX_LINE_BYTES",
    "BadRow",
    "RowChecker",
    "Shape",
    "check_row",
    "format_row",
    "parse_line",
]

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Longest line; bounds what a check holds in memory."""

_MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "weight")


def format_row(body: Mapping[str, Any]) -> bytes:
    """Return the canonical line of a sound row, `\\n` included.

    It holds what training reads, in a fixed order of keys, and nothing else, so two rows that
    teach the same have the same line. `tools` stay as they are: their order is read by the model.
    """
    row = _canonical(body)
    # Only a name can still hold a lone surrogate.
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class RowChecker:
    """Checks a training file while its bytes pass by: `feed` each piece, then `finish`.

    Both raise InvalidArgument for the first bad line, as in `line 17: is not valid JSON (…)`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.shape: Shape | None = None
        """The shape of the file, known after its first row."""
        self._line = 0
        self._blank: int | None = None
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Check every line that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > MAX_LINE_BYTES:
            self._refuse(self._line + 1, f"is longer than {MAX_LINE_BYTES} bytes")

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
            self._refuse(self._blank, "is empty")
        if self.shape is None or not is_plain(line, self.shape):
            self._explain(line)
        self.rows += 1

    def _explain(self, line: bytes) -> None:
        try:
            shape = check_row(parse_line(line))
        except BadRow as error:
            self._refuse(self._line, str(error))
        if shape is not (self.shape or shape):
            self._refuse(self._line, f"is a {shape} row in a file of {self.shape} rows")
        self.shape = shape

    def _refuse(self, line: int, what: str) -> NoReturn:
        raise InvalidArgument(
            f"line {line}: {what}",
            reason="INVALID_ROW",
            field="file",
            metadata={"line": str(line)},
        )


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object of a line; BadRow if it is none."""
    if len(line) > MAX_LINE_BYTES:
        raise BadRow("too_long", f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of the line"
        raise BadRow("not_utf8", f"is not UTF-8 text ({where})") from error
    except json.JSONDecodeError as error:
        where = f"{error.msg}, column {error.colno}"
        raise BadRow("not_json", f"is not valid JSON ({where})") from error
    except (ValueError, RecursionError) as error:
        why = "a number or a nesting is out of bounds"
        raise BadRow("not_json", f"is not valid JSON ({why})") from error
    if not isinstance(row, dict):
        raise BadRow("not_an_object", "is not a JSON object")
    return row


def _canonical(row: Mapping[str, Any]) -> dict[str, Any]:
    match shape_of(row):
        case Shape.CHAT:
            return _canonical_talk(row)
        case Shape.TEXT:
            return {"text": row["text"]}
        case Shape.PAIR:
            return {"prompt": row["prompt"], "completion": row["completion"]}
        case Shape.PREFERENCE:
            outputs = {key: [_canonical_message(one) for one in row[key]] for key in OUTPUTS}
            return {"input": _canonical_talk(row["input"]), **outputs}


def _canonical_talk(talk: Mapping[str, Any]) -> dict[str, Any]:
    canonical: dict[str, Any] = {"messages": [_canonical_message(one) for one in talk["messages"]]}
    if talk.get("tools"):
        canonical["tools"] = talk["tools"]
    if talk.get("parallel_tool_calls") is not None:
        canonical["parallel_tool_calls"] = talk["parallel_tool_calls"]
    return canonical


def _canonical_message(message: Mapping[str, Any]) -> dict[str, Any]:
    # Chat templates ask whether a key is there, so one without a value must not be.
    canonical = {key: message[key] for key in _MESSAGE_KEYS if message.get(key) not in (None, [])}
    if calls := canonical.get("tool_calls"):
        canonical["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {key: call["function"][key] for key in ("name", "arguments")},
            }
            for call in calls
        ]
    return canonical
