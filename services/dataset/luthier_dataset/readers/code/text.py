"""The text of a source file as its parser sees it."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from functools import cached_property

import msgspec

from luthier_dataset.readers.encoding import Decoded
from luthier_dataset.readers.items import Place


class SourceText:
    """Text in UTF-8 with `\\n` as line ends, and where each of its bytes stands in the file."""

    def __init__(self, decoded: Decoded, member: str) -> None:
        self.utf8 = decoded.text.encode("utf-8", "replace")
        self._decoded = decoded
        self._member = member

    def text(self, start: int, end: int) -> str:
        """Return what stands from one byte to another."""
        return self.utf8[start:end].decode("utf-8", "replace")

    def place(self, start: int, end: int) -> Place:
        """Return where that is in the file."""
        place = self._decoded.place(self._character(start), self._character(end))
        return msgspec.structs.replace(place, member=self._member)

    def begins_line(self, offset: int) -> bool:
        """Say whether only blanks stand before a byte in its line."""
        return self.line_start(offset) < offset or self.utf8[offset - 1 : offset] in (b"", b"\n")

    def line_start(self, offset: int) -> int:
        """Return where the line begins if only blanks stand before the byte, else the byte."""
        start = self.utf8.rfind(b"\n", 0, offset) + 1
        return offset if self.utf8[start:offset].strip() else start

    def trimmed(self, start: int, end: int) -> int:
        """Return `end` without the line end before it."""
        return max(start, end - 1) if self.utf8[end - 1 : end] == b"\n" else end

    def _character(self, offset: int) -> int:
        return offset - bisect_left(self._continuations, offset)

    @cached_property
    def _continuations(self) -> array[int]:
        """Bytes that are not the first of their character."""
        if self.utf8.isascii():
            return array("I")
        return array("I", (match.start() for match in re.finditer(rb"[\x80-\xbf]", self.utf8)))
