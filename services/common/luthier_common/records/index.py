"""The index behind a collection: what is stored, in memory, ordered and paged."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from luthier_common.errors import InvalidArgument
from luthier_common.names import parent_of
from luthier_common.paging import Page, coerce_page_size, decode_token, encode_token

M = TypeVar("M", bound=Message)

_INT64_OFFSET = 2**63
_INTEGERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_BOOL,
        FieldDescriptor.CPPTYPE_ENUM,
    }
)

_Position = tuple[str, str]
"""Sort key and name: where an item stands, also after it was deleted."""


class Index(Generic[M]):
    """The newest known message of each name; entries may arrive in any order, repeatedly."""

    def __init__(self, message_type: type[M]) -> None:
        self._type = message_type
        self._by_parent: dict[str, dict[str, M]] = {}
        # Deleted names stay here, or a late older entry would bring them back.
        self._revisions: dict[str, int] = {}
        self._listeners: set[_Listener] = set()

    def apply(self, name: str, message: M | None, revision: int) -> None:
        """Take in one change (None: deleted) unless a newer one is known; keeps `message`."""
        if self._revisions.get(name, 0) >= revision:
            return
        self._revisions[name] = revision
        siblings = self._by_parent.setdefault(parent_of(name), {})
        if message is None:
            siblings.pop(name, None)
        else:
            siblings[name] = message
        for listener in self._listeners:
            listener.add(name)

    def values(self, parent: str | None) -> list[M]:
        """Return copies, by name."""
        groups = self._by_parent.values() if parent is None else [self._by_parent.get(parent, {})]
        found = sorted(itertools.chain.from_iterable(group.items() for group in groups))
        return [_copy(message) for _, message in found]

    def page(
        self,
        parent: str,
        *,
        where: Callable[[M], bool] | None,
        query: str,
        order_by: str,
        after: str | None,
        page_size: int,
        page_token: str,
    ) -> Page[M]:
        """See Collection.list."""
        size = coerce_page_size(page_size)
        key, descending = _ordering(self._type, order_by)
        identity = json.dumps([parent, query, order_by, after])
        siblings = self._by_parent.get(parent, {})
        start = _start(siblings, key, after, page_token, identity)
        found = [
            ((key(message), name), message)
            for name, message in siblings.items()
            if where is None or where(message)
        ]
        if start is not None:
            found = [item for item in found if (item[0] < start if descending else item[0] > start)]
        found.sort(key=lambda item: item[0], reverse=descending)
        items = found[:size]
        more = len(found) > size
        token = encode_token(identity, list(items[-1][0])) if more else ""
        return Page([_copy(message) for _, message in items], token, more)

    def changes(self) -> AsyncIterator[str]:
        """See Collection.changes."""
        listener = _Listener(self._listeners.discard)
        self._listeners.add(listener)
        return listener

    def close(self) -> None:
        """End every `changes` iterator."""
        for listener in list(self._listeners):
            listener.close()


class _Listener(AsyncIterator[str]):
    """Names waiting to be looked at, each once: memory is bounded by the number of names."""

    def __init__(self, forget: Callable[[_Listener], None]) -> None:
        self._forget = forget
        self._names: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, name: str) -> None:
        self._names[name] = None
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._forget(self)
        self._wake.set()

    async def aclose(self) -> None:
        """Stop listening."""
        self.close()

    async def __anext__(self) -> str:
        while not self._names:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        name = next(iter(self._names))
        del self._names[name]
        return name


def _start(
    siblings: dict[str, M],
    key: Callable[[M], str],
    after: str | None,
    page_token: str,
    identity: str,
) -> _Position | None:
    if page_token:
        match decode_token(page_token, identity):
            case [sort_key, name]:
                return sort_key, name
        raise InvalidArgument(
            "page_token is damaged", reason="INVALID_PAGE_TOKEN", field="page_token"
        )
    if not after:
        return None
    if after not in siblings:
        raise InvalidArgument(
            "after must be the name of an item of the list", reason="INVALID_AFTER", field="after"
        )
    return key(siblings[after]), after


def _ordering(message_type: type[M], order_by: str) -> tuple[Callable[[M], str], bool]:
    match order_by.split():
        case [field]:
            descending = False
        case [field, "asc" | "desc" as direction]:
            descending = direction == "desc"
        case _:
            raise _bad_order(order_by)
    descriptor = message_type.DESCRIPTOR.fields_by_name.get(field)
    if descriptor is None or descriptor.is_repeated:
        raise _bad_order(order_by)
    # Keys are texts that sort as the values do, so that a page token can carry them.
    if descriptor.message_type is Timestamp.DESCRIPTOR:
        return lambda message: _time_key(getattr(message, field)), descending
    if descriptor.cpp_type in _INTEGERS:
        return lambda message: f"{int(getattr(message, field)) + _INT64_OFFSET:020d}", descending
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        return lambda message: str(getattr(message, field)), descending
    raise _bad_order(order_by)


def _time_key(time: Timestamp) -> str:
    return f"{time.seconds + _INT64_OFFSET:020d}{time.nanos:09d}"


def _bad_order(order_by: str) -> InvalidArgument:
    return InvalidArgument(
        f"cannot order by '{order_by}'", reason="INVALID_ORDER_BY", field="order_by"
    )


def _copy(message: M) -> M:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
