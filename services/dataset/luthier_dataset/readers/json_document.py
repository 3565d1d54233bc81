"""Reads a JSON document: arrays of objects as tables, and the chat exports of Slack and Telegram.

The document is UTF-8 (RFC 8259). Its text is held whole; its values are made one at a time.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from luthier_dataset.readers.chat_log import as_message
from luthier_dataset.readers.items import Item, Place, Record, Remark, UnreadableDocument
from luthier_dataset.readers.jsonl import mended, parse_fields
from luthier_dataset.rows import BadRow

MAX_BYTES = 128 * 1024 * 1024
"""Of a document; a larger table is given as JSON Lines."""

_MAX_NESTING = 4
"""Objects around a table."""
_KEY = re.compile(rb'[\s,]*("(?:[^"\\]|\\.)*+")\s*:\s*', re.DOTALL)
_GAP = re.compile(rb"[\s,]*")
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = msgspec.json.Decoder(msgspec.Raw).decode
_string = msgspec.json.Decoder(str).decode

_AsItem = Callable[[dict[str, Any], Place], Item | None]


def read_json(path: Path) -> Iterator[Item]:
    """Yield the objects of each array of objects that stands in no other array.

    They are records under the keys that lead to the array, or messages where the array is a chat
    of Slack's or the `messages` of one of Telegram's.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UnreadableDocument(
            f"it has {size} bytes; a JSON document may have {MAX_BYTES}, JSON Lines any number"
        )
    found = False
    try:
        for item in _items(mended(path.read_bytes())):
            found = found or not isinstance(item, Remark)
            yield item
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableDocument(f"it is not valid JSON in UTF-8 ({error})") from error
    except RecursionError as error:
        raise UnreadableDocument("its values are nested too deep") from error
    except MemoryError as error:
        raise UnreadableDocument("it has too many values; give it as JSON Lines") from error
    if not found:
        raise UnreadableDocument("it holds no array of objects")


class _Table(NamedTuple):
    """An array that holds an object."""

    start: int
    """Its first byte in the document."""
    elements: list[msgspec.Raw]
    path: tuple[str, ...]
    """The keys that lead to it."""
    owner: str
    """The `name` of the object it stands in."""


def _items(data: bytes) -> Iterator[Item]:
    start = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    _value(memoryview(data)[start:])
    lines = _Lines(data)
    for table in _tables(data, _behind_gap(data, start), len(data), (), ""):
        yield from _table_items(data, table, lines)


def _tables(
    data: bytes, start: int, end: int, path: tuple[str, ...], owner: str
) -> Iterator[_Table]:
    match data[start : start + 1]:
        case b"[":
            elements = _array(memoryview(data)[start:end])
            if any(memoryview(raw)[0] == ord("{") for raw in elements):
                yield _Table(start, elements, path, owner)
        case b"{" if len(path) < _MAX_NESTING:
            members = list(_members(data, start, end))
            names = (data[first:last] for key, first, last in members if key == "name")
            owner = next((_string(name) for name in names if name.startswith(b'"')), "")
            for key, first, last in members:
                yield from _tables(data, first, last, (*path, key), owner)


def _members(data: bytes, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Yield the keys of an object, each with the first byte of its value and that behind it."""
    at = start + 1
    values = _object(memoryview(data)[start:end])
    for key, raw in values.items():
        match = _KEY.match(data, at)
        if match is None or _string(match[1]) != key:
            break
        at = match.end() + memoryview(raw).nbytes
        yield key, match.end(), at
    # A key that comes again hides its first value, and nobody knows which one is meant.
    if data[_behind_gap(data, at) : end].rstrip() != b"}":
        raise UnreadableDocument(f"an object of it, at byte {start + 1}, has the same key twice")


def _table_items(data: bytes, table: _Table, lines: _Lines) -> Iterator[Item]:
    as_item: _AsItem | None = None
    left_out = 0
    for number, (raw, place) in enumerate(_elements(data, table, lines), start=1):
        try:
            fields = parse_fields(raw)
        except BadRow as error:
            what = f"element {number} of {'.'.join(table.path) or 'the array'} {error}"
            yield Remark("malformed_row", what, place)
            continue
        as_item = as_item or _reading(table, fields)
        item = as_item(fields, place)
        left_out += item is None
        if item is not None:
            yield item
    if left_out:
        what = f"entries of the chat left out, being no messages with a text: {left_out}"
        yield Remark("skipped_part", what)


def _elements(data: bytes, table: _Table, lines: _Lines) -> Iterator[tuple[bytes, Place]]:
    """Yield the text of each element and where it stands."""
    at = table.start + 1
    for raw in table.elements:
        start = _behind_gap(data, at)
        at = start + memoryview(raw).nbytes
        line = lines.number(start)
        yield bytes(raw), Place(line=line, last_line=lines.number(at), start=start, end=at)


class _Lines:
    """Numbers lines; what is asked for must come in the order of the document."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._line, self._at = 1, 0

    def number(self, at: int) -> int:
        """Return the number, from 1, of the line in which a byte stands."""
        self._line += self._data.count(b"\n", self._at, at)
        self._at = at
        return self._line


def _behind_gap(data: bytes, at: int) -> int:
    gap = _GAP.match(data, at)
    return gap.end() if gap else at


def _reading(table: _Table, first: dict[str, Any]) -> _AsItem:
    """How the objects of a table are read, as the first of them shows."""
    if not table.path and {"ts", "text"} <= first.keys():
        return _slack
    if table.path[-1:] == ("messages",) and {"date", "text"} <= first.keys():
        return lambda fields, place: _telegram(fields, table.owner, place)
    return lambda fields, place: Record(fields, table.path, place)


def _slack(fields: dict[str, Any], place: Place) -> Item | None:
    """A message of a channel's export (https://slack.com/help/articles/220556107)."""
    profile = fields.get("user_profile")
    name = profile.get("real_name") if isinstance(profile, dict) else None
    text = fields.get("text")
    if str(fields.get("subtype", "")).startswith(("channel_", "group_")):
        return None
    message = {
        "sender": name or fields.get("username") or fields.get("user") or fields.get("bot_id"),
        "ts": fields.get("ts"),
        "text": html.unescape(text) if isinstance(text, str) else None,
        "thread": fields.get("thread_ts"),
    }
    return as_message(message, place)


def _telegram(fields: dict[str, Any], chat: str, place: Place) -> Item | None:
    """A message of a chat's export; its text is a string, or a list of strings and entities."""
    text = fields.get("text")
    parts = text if isinstance(text, list) else [text]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    message = {
        "sender": fields.get("from"),
        "time": fields.get("date_unixtime") or fields.get("date"),
        "text": "".join(part for part in texts if isinstance(part, str)),
        "thread": chat,
    }
    return as_message(message, place)
