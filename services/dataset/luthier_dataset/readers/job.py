"""What a reader process is asked, and what it answers."""

from __future__ import annotations

import msgspec

from luthier_dataset.readers.items import Item, Remark
from luthier_dataset.readers.kinds import Kind

PART_BYTES = 2 * 1024 * 1024
"""A long reading is marked at about every so many bytes, so that it can be worked on in parts."""

EXIT_MEMORY, EXIT_OUTPUT = 3, 4
"""Exit codes of a reader that met its limit of memory, or of what it may write."""

_PLACED = {Kind.TEXT, Kind.MARKDOWN, Kind.JSONL, Kind.CSV, Kind.TSV, Kind.JSON}
"""Kinds read in the order of their bytes, with the range of bytes of every item."""


class ReadJob(msgspec.Struct, frozen=True):
    """Read `document` and write its items, as JSON Lines, to `target`."""

    kind: Kind
    document: str
    target: str
    cpu_seconds: int
    """Processor time that this document may take."""
    output_bytes: int
    """Most bytes written."""
    most_bytes: int = 0
    """Reading stops behind so many bytes of items, where it can be told how much of the document
    they are; 0 means that the whole document is read."""

    def share(self, item: Item, document_bytes: int) -> float:
        """Return how much of the document lies before the end of an item; 0 if not known."""
        known = self.kind in _PLACED and not isinstance(item, Remark)
        return min(item.place.end / document_bytes, 1.0) if known else 0.0


class Reading(msgspec.Struct, frozen=True):
    """What became of a document."""

    unreadable: str = ""
    """Why it cannot be read, for its owner; empty if it was read."""
    items: int = 0
    """Items written, remarks included."""
    cuts: tuple[int, ...] = ()
    """Offsets in `target` of items, ascending, the first 0, the last its size: the parts."""
    remarks: dict[str, int] = {}
    """Remarks by code."""
    examples: tuple[Remark, ...] = ()
    """The first few remarks of each code, in order."""
    share: float = 1.0
    """How much of the document was read, measured in its bytes."""
    no_room: bool = False
    """There was no room on the disk for its items; that is not the document's fault."""
