"""Records in memory: the fake that unit tests use, held to the real store's contract."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from fnmatch import fnmatchcase

from luthier_common.errors import AlreadyExists, Conflict, not_found
from luthier_common.records.port import Entry


class MemoryRecords:
    """A RecordStore that lives as long as the process."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._watchers: dict[asyncio.Queue[Entry | None], str] = {}

    async def get(self, name: str) -> Entry:
        """See RecordStore."""
        entry = self._entries.get(name)
        if entry is None or entry.value is None:
            raise not_found(name)
        return entry

    async def create(self, name: str, value: bytes) -> int:
        """See RecordStore."""
        entry = self._entries.get(name)
        if entry is not None and entry.value is not None:
            raise already_exists(name)
        return self._write(name, value)

    async def update(self, name: str, value: bytes, *, revision: int) -> int:
        """See RecordStore."""
        self._expect(name, revision)
        return self._write(name, value)

    async def delete(self, name: str, *, revision: int) -> int:
        """See RecordStore."""
        self._expect(name, revision)
        return self._write(name, None)

    async def watch(self, pattern: str) -> AsyncGenerator[Entry | None, None]:
        """See RecordStore."""
        changes: asyncio.Queue[Entry | None] = asyncio.Queue()
        for entry in sorted(self._entries.values(), key=lambda entry: entry.revision):
            if _matches(entry.name, pattern):
                changes.put_nowait(entry)
        changes.put_nowait(None)
        self._watchers[changes] = pattern
        with contextlib.ExitStack() as stack:
            stack.callback(self._watchers.pop, changes)
            while True:
                yield await changes.get()

    def describe(self) -> str:
        """See RecordStore."""
        return "records in memory"

    def _expect(self, name: str, revision: int) -> None:
        entry = self._entries.get(name)
        if entry is None or entry.revision != revision:
            raise stale_revision(name)

    def _write(self, name: str, value: bytes | None) -> int:
        self._revision += 1
        entry = self._entries[name] = Entry(name, value, self._revision)
        for changes, pattern in self._watchers.items():
            if _matches(name, pattern):
                changes.put_nowait(entry)
        return self._revision


def _matches(name: str, pattern: str) -> bool:
    # fnmatch's star would cross the slash, hence the comparison of depths.
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def already_exists(name: str) -> AlreadyExists:
    """The one answer to creating a name that is taken."""
    return AlreadyExists(
        f"{name} already exists", reason="RESOURCE_ALREADY_EXISTS", metadata={"resource": name}
    )


def stale_revision(name: str) -> Conflict:
    """The one answer to writing over a revision that is not the latest."""
    return Conflict(
        f"{name} has changed since it was read; read it again",
        reason="STALE_REVISION",
        field="etag",
        metadata={"resource": name},
    )
