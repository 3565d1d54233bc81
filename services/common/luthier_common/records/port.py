"""The store of records that services write their state through."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """One record as stored."""

    name: str
    """Resource name, such as `projects/acme/files/file-1`."""
    value: bytes | None
    """JSON text; None once deleted."""
    revision: int
    """Grows with every write to the store; never used twice."""


class RecordStore(Protocol):
    """Named values with a revision each; every write states the revision it replaces.

    Every method may raise Unavailable. After a write that means the outcome is unknown: read
    again before deciding anything.
    """

    async def get(self, name: str) -> Entry:
        """Return the latest committed entry; NotFound when absent or deleted."""
        ...

    async def create(self, name: str, value: bytes) -> int:
        """Store under a free name and return the revision; AlreadyExists."""
        ...

    async def update(self, name: str, value: bytes, *, revision: int) -> int:
        """Replace exactly `revision` and return the new one; Conflict when it is not the latest."""
        ...

    async def delete(self, name: str, *, revision: int) -> int:
        """Delete exactly `revision` and return the deletion's own; Conflict when not the latest."""
        ...

    def watch(self, pattern: str) -> AsyncGenerator[Entry | None, None]:
        """Yield the current entries, then None, then each change, deletions included.

        `pattern` is a name in which `*` stands for one segment. Entries may repeat or come out
        of order, so compare revisions. Ends by raising Unavailable when the store goes away;
        call again to start over.
        """
        ...

    def describe(self) -> str:
        """Return which store this is, for messages."""
        ...
