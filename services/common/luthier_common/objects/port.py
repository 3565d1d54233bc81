"""The store of big values: bytes under a key, written whole."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from luthier_common.errors import InvalidArgument

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9._=-]{0,127})*")
_LONGEST_KEY = 900


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object."""

    key: str
    size: int
    """Bytes."""


class ObjectStore(Protocol):
    """Bytes by key. An object appears whole or not at all, and is replaced whole.

    Keys are segments joined by `/`; a segment begins with a letter or digit and holds letters,
    digits and `._=-`. Every method may raise InvalidArgument (key), Unavailable, and
    FailedPrecondition when the store refuses our credentials.
    """

    async def put(self, key: str, data: bytes | AsyncIterable[bytes]) -> ObjectInfo:
        """Store durably, replacing what was there; ResourceExhausted when the store is full."""
        ...

    def get(self, key: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes in chunks; NotFound, DataLoss if they are not what was put.

        Damage may show only after the last chunk, so use nothing before the end.
        """
        ...

    async def stat(self, key: str) -> ObjectInfo:
        """Return what is stored; NotFound."""
        ...

    def list(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        """Yield the objects whose key begins with `prefix`, by key."""
        ...

    async def delete(self, key: str) -> None:
        """Delete; no error when absent."""
        ...

    def presign_put(self, key: str, expires: timedelta) -> str:
        """Return a URL to which whoever has it can PUT the object until then, at most 7 days.

        FailedPrecondition DIRECT_UPLOAD_UNSUPPORTED when the store has no such thing.
        """
        ...

    def describe(self) -> str:
        """Return which store this is, for messages."""
        ...


def check_key(key: str) -> str:
    """Return the key if legal, else InvalidArgument."""
    if len(key) > _LONGEST_KEY or _KEY.fullmatch(key) is None:
        raise InvalidArgument(f"'{key}' is no object key", reason="INVALID_OBJECT_KEY")
    return key


async def read_all(store: ObjectStore, key: str) -> bytes:
    """Return a whole object that is known to fit in memory; errors as `get`."""
    return b"".join([chunk async for chunk in store.get(key)])
