"""One kind of resource in a record store: typed, indexed, paged."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Generic, Self, TypeVar

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import Message

from luthier_common.errors import Aborted, Conflict, DataLoss, PlatformError, Unavailable
from luthier_common.names import parse
from luthier_common.paging import Page
from luthier_common.records.followers import stop
from luthier_common.records.index import Index
from luthier_common.records.memory import stale_revision
from luthier_common.records.port import Entry, RecordStore

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

_ATTEMPTS = 100
_LONGEST_PAUSE_SECONDS = 0.2
_LOAD_SECONDS = 30.0
_REOPEN_SECONDS = 0.5


class Collection(Generic[M]):
    """Records of one message type under one name pattern.

    Writes and `get` go to the store; `list`, `values` and `changes` are answered from an index
    that follows the store and contains this process's own writes at once. Fields that the message
    has are kept by the collection: `name`, `etag`, `create_time`, `update_time`.
    """

    def __init__(self, store: RecordStore, message_type: type[M], pattern: str) -> None:
        self._store = store
        self._type = message_type
        self._pattern = pattern
        self._index: Index[M] = Index(message_type)
        self._loaded = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Load the index; Unavailable if the store does not deliver it within 30 seconds."""
        self._task = asyncio.create_task(self._follow(), name=f"index {self._pattern}")
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                await self._loaded.wait()
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                message = f"{self._store.describe()} did not load in time"
                raise Unavailable(message, reason="RECORDS_NOT_LOADED") from error
            raise

    async def close(self) -> None:
        """Stop following; `changes` iterators end."""
        if self._task is not None:
            await stop(self._task)
            self._task = None
        self._index.close()

    async def create(self, name: str, message: M) -> M:
        """Store a copy under a free name and return it as stored; AlreadyExists."""
        parse(name, self._pattern)
        stored = _copy(message)
        now = datetime.now(UTC)
        self._stamp(stored, name=name, create_time=now, update_time=now)
        revision = await self._store.create(name, self._encode(stored))
        return self._written(name, stored, revision)

    async def get(self, name: str) -> M:
        """Return the latest committed record; NotFound."""
        return (await self._read(name))[0]

    async def update(
        self, name: str, change: Callable[[M], M | None], *, etag: str | None = None
    ) -> M:
        """Change a record and return it as stored; NotFound, Conflict when `etag` is stale.

        `change` gets a private copy and returns what to store, or None to leave it as it is. It
        may run several times when others write too, so it must have no effect but its result.
        """
        for attempt in range(_ATTEMPTS):
            current, revision = await self._read(name, etag)
            changed = change(_copy(current))
            if changed is None:
                return current
            stored = _copy(changed)
            self._stamp(stored, name=name, update_time=datetime.now(UTC))
            try:
                written = await self._store.update(name, self._encode(stored), revision=revision)
            except Conflict:
                await _pause(attempt)
                continue
            return self._written(name, stored, written)
        raise _contended(name)

    async def delete(
        self,
        name: str,
        *,
        etag: str | None = None,
        check: Callable[[M], None] | None = None,
    ) -> None:
        """Delete a record; NotFound, Conflict when `etag` is stale, or whatever `check` raises.

        `check` sees exactly the record that gets deleted.
        """
        for attempt in range(_ATTEMPTS):
            current, revision = await self._read(name, etag)
            if check is not None:
                check(current)
            try:
                deletion = await self._store.delete(name, revision=revision)
            except Conflict:
                await _pause(attempt)
                continue
            self._index.apply(name, None, deletion)
            return
        raise _contended(name)

    def list(
        self,
        parent: str,
        *,
        where: Callable[[M], bool] | None = None,
        query: str = "",
        order_by: str = "create_time desc",
        after: str | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[M]:
        """Return one page of the parent's records; InvalidArgument on bad paging.

        `where` must not change what it is shown; `query` is the text that identifies it, so that
        a page token cannot continue another query. `order_by` is one field, and `desc` or
        nothing. `after` is the name of the item that the page comes after.
        """
        return self._index.page(
            parent,
            where=where,
            query=query,
            order_by=order_by,
            after=after,
            page_size=page_size,
            page_token=page_token,
        )

    def values(self, parent: str | None = None) -> builtins.list[M]:
        """Return copies of the records of one parent, or of all, by name."""
        return self._index.values(parent)

    def changes(self) -> AsyncIterator[str]:
        """Return an iterator of the names that change from now on.

        A name that changed several times may come once. Look at everything (`values`) first, and
        again from time to time: this is only what makes reacting quick.
        """
        return self._index.changes()

    async def _read(self, name: str, etag: str | None = None) -> tuple[M, int]:
        parse(name, self._pattern)
        entry = await self._store.get(name)
        if etag and etag != str(entry.revision):
            raise stale_revision(name)
        message = self._decode(entry)
        self._stamp(message, etag=str(entry.revision))
        return message, entry.revision

    def _written(self, name: str, message: M, revision: int) -> M:
        self._stamp(message, etag=str(revision))
        self._index.apply(name, _copy(message), revision)
        return message

    def _stamp(self, message: M, **values: str | datetime) -> None:
        for field, value in values.items():
            if field not in self._type.DESCRIPTOR.fields_by_name:
                continue
            if isinstance(value, str):
                setattr(message, field, value)
            else:
                getattr(message, field).FromDatetime(value)

    def _encode(self, message: M) -> bytes:
        stored = _copy(message)
        # The revision is known only after the write.
        self._stamp(stored, etag="")
        return MessageToJson(stored, indent=None).encode()

    def _decode(self, entry: Entry) -> M:
        try:
            return Parse(entry.value or b"", self._type(), ignore_unknown_fields=True)
        except (ParseError, UnicodeDecodeError) as error:
            raise DataLoss(f"{entry.name} is damaged", reason="RECORD_DAMAGED") from error

    async def _follow(self) -> None:
        pattern = "/".join("*" if "{" in part else part for part in self._pattern.split("/"))
        while True:
            try:
                async with contextlib.aclosing(self._store.watch(pattern)) as entries:
                    async for entry in entries:
                        self._take(entry)
            except PlatformError as error:
                _log.warning("%s; the index follows again soon", error)
            except Exception:
                _log.exception("following %s failed", self._store.describe())
            await asyncio.sleep(_REOPEN_SECONDS)

    def _take(self, entry: Entry | None) -> None:
        if entry is None:
            self._loaded.set()
            return
        message: M | None = None
        if entry.value is not None:
            try:
                message = self._decode(entry)
            except DataLoss as error:
                # One damaged record must not hide all others; `get` reports it.
                _log.error("%s and left out of lists", error)
                return
            self._stamp(message, etag=str(entry.revision))
        self._index.apply(entry.name, message, entry.revision)


def _copy(message: M) -> M:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


async def _pause(attempt: int) -> None:
    longest = min(0.005 * 2.0 ** min(attempt, 10), _LONGEST_PAUSE_SECONDS)
    await asyncio.sleep(random.uniform(0, longest))


def _contended(name: str) -> Aborted:
    return Aborted(f"{name} is being changed by too many writers", reason="CONTENDED")
