"""Reads JSON Lines: one object a line, as UTF-8 (https://jsonlines.org)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from luthier_dataset.readers.items import Item, Place, Record, Remark, UnreadableDocument
from luthier_dataset.rows import MAX_LINE_BYTES, BadRow, parse_line

MAX_DEPTH = 100
"""Deepest nesting of a record; deeper ones would break what reads the items."""

_SURROGATE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""An escape of half a character; what precedes it here is none, or a whole one."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read_jsonl(path: Path) -> Iterator[Item]:
    """Yield a record for each line that is an object, and a remark for each other one."""
    found, first_fault = False, ""
    with path.open("rb") as file:
        for place, line in _lines(file):
            try:
                fields = parse_fields(line)
            except BadRow as error:
                remark = Remark("malformed_row", f"line {place.line} {error}", place)
                first_fault = first_fault or remark.detail
                yield remark
            else:
                found = True
                yield Record(fields, place=place)
    if not found:
        what = f"no line of it is a JSON object: {first_fault}" if first_fault else "it is empty"
        raise UnreadableDocument(what)


def parse_fields(text: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object; BadRow if it is none or is nested too deep."""
    try:
        fields = _decode(text) if len(text) <= MAX_LINE_BYTES else parse_line(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What the fast parser does not take, the other one takes or explains.
        fields = parse_line(mended(text))
    # No value is deeper than it has brackets, so most need no closer look.
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deep(fields):
        raise BadRow("too_deep", f"is nested more than {MAX_DEPTH} levels deep")
    return fields


def mended(text: bytes) -> bytes:
    """Return JSON with U+FFFD for each half of a character, which no text can hold.

    Nothing else changes, and no byte moves.
    """
    return _SURROGATE.sub(lambda match: rb"\ufffd" if match[1] else match[0], text)


def _lines(file: IO[bytes]) -> Iterator[tuple[Place, bytes]]:
    """Yield the lines that are not blank; of one that is too long, so much that it shows."""
    at = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
    file.seek(at)
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        start, number = at, number + 1
        at += len(line)
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            while part := file.readline(MAX_LINE_BYTES):
                at += len(part)
                if part.endswith(b"\n"):
                    break
            yield Place(line=number, last_line=number, start=start, end=at), line
        elif body := line.strip():
            start += len(line) - len(line.lstrip())
            end = start + len(body)
            yield Place(line=number, last_line=number, start=start, end=end), body


def _is_deep(fields: dict[str, Any]) -> bool:
    level: list[Any] = [fields]
    for _ in range(MAX_DEPTH):
        children = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for some in children for child in some if isinstance(child, list | dict)]
    return bool(level)
