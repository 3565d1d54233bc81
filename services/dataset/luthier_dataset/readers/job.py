"""What a reader process is asked, and what it answers."""

from __future__ import annotations

import msgspec

from luthier_dataset.readers.items import Remark
from luthier_dataset.readers.kinds import Kind

PART_BYTES = 2 * 1024 * 1024
"""A long reading is marked at about every so many bytes, so that it can be worked on in parts."""


class ReadJob(msgspec.Struct, frozen=True):
    """Read `document` and write its items, as JSON Lines, to `target`."""

    kind: Kind
    document: str
    target: str
    cpu_seconds: int
    """Processor time that this document may take."""
    output_bytes: int
    """Most bytes written."""


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
