"""Who calls from outside: API keys, found by the digest of their secret."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

from luthier.gateway.v1 import api_key_pb2
from luthier_common.errors import Unauthenticated
from luthier_common.identity import Identity, Role
from luthier_common.names import id_of, project_of
from luthier_common.records.collection import Collection

SECRET_PREFIX = "sk-luthier-"
API_KEY = "projects/{project}/apiKeys/{api_key}"

_SCHEME = "bearer"


def digest_of(secret: str) -> str:
    """Return what is stored of a secret: its SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The valid keys by digest, kept up to date from their records (an async context manager).

    Whoever changes the collection calls `refresh`, so that a revoked key is refused at once here;
    `follow` brings in what other gateways change.
    """

    def __init__(self, records: Collection[api_key_pb2.ApiKey]) -> None:
        self._records = records
        self._changes: AsyncIterator[str] | None = None
        self._identities: dict[str, Identity] = {}

    async def __aenter__(self) -> Self:
        self._changes = self._records.changes()
        self.refresh()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._changes = None
        self._identities = {}

    def refresh(self) -> None:
        """Take over the collection as it is now."""
        self._identities = {
            key.secret_sha256: Identity(
                project_of(key.name), Role(key.role), f"apiKeys/{id_of(key.name)}"
            )
            for key in self._records.values()
        }

    async def follow(self) -> None:
        """Refresh with every change, for ever."""
        if self._changes is None:
            raise RuntimeError("the key ring is not open")
        async for _ in self._changes:
            self.refresh()

    def identify(self, authorization: str | None) -> Identity:
        """Return whose key an `Authorization` header carries; Unauthenticated when nobody's."""
        if not authorization:
            raise _refused("No API key was given: send one as `Authorization: Bearer sk-luthier-…`")
        scheme, _, secret = authorization.partition(" ")
        identity = self._identities.get(digest_of(secret.strip()))
        if scheme.lower() != _SCHEME or identity is None:
            raise _refused("The API key is not valid")
        return identity

    async def authenticate(self, metadata: Mapping[str, str]) -> Identity:
        """Return whose key came with a gRPC call; Unauthenticated when nobody's."""
        return self.identify(metadata.get("authorization"))


def _refused(message: str) -> Unauthenticated:
    return Unauthenticated(message, reason="INVALID_API_KEY")
