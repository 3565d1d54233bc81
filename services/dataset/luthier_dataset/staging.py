"""What has arrived of uploads, kept apart from the blobs that files share until they are whole.

It lies below `uploads/{id}/{project}/` in the object store: parts by their digests, or the one
object that a direct upload's caller has PUT.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from datetime import timedelta

from luthier_common.errors import InvalidArgument
from luthier_common.names import id_of, project_of
from luthier_common.objects.blobs import Blob, Blobs
from luthier_common.objects.port import ObjectStore

MAX_PART_BYTES = 64 * 1024 * 1024
"""OpenAI's 64 MB; its SDK means 64 MiB."""
MAX_DIRECT_BYTES = 5 * 1024**3
"""What S3 takes in one PUT."""

Read = Callable[[], AsyncIterable[bytes]]
"""Begins to read bytes anew."""

_FOLDER = "uploads"


class Staging:
    """The bytes of uploads; `name` is always an upload's resource name."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def put_part(self, name: str, chunks: AsyncIterable[bytes]) -> Blob:
        """Store and verify a part; InvalidArgument when it is empty or too large."""
        return await self._parts(name).put_stream(project_of(name), _limited(chunks))

    async def delete_part(self, name: str, sha256: str) -> None:
        """Delete a part; no error when absent."""
        await self._parts(name).delete(project_of(name), sha256)

    def joined(self, name: str, digests: Sequence[str]) -> Read:
        """Return how to read parts one behind the other; DataLoss where one is not intact."""
        parts, project = self._parts(name), project_of(name)

        async def read() -> AsyncIterator[bytes]:
            for sha256 in digests:
                async for chunk in parts.stream(project, sha256):
                    yield chunk

        return read

    def presign(self, name: str, expires: timedelta) -> str:
        """Return the URL for a direct upload; FailedPrecondition where there is no such thing."""
        return self._objects.presign_put(_direct_key(name), expires)

    async def direct_size(self, name: str) -> int:
        """Return how many bytes the caller has PUT; NotFound before."""
        return (await self._objects.stat(_direct_key(name))).size

    def direct(self, name: str) -> Read:
        """Return how to read what the caller has PUT."""
        return lambda: self._objects.get(_direct_key(name))

    async def keys(self) -> AsyncGenerator[tuple[str, str], None]:
        """Yield the uploads' names and the keys of what is kept for them."""
        async for item in self._objects.list(f"{_FOLDER}/"):
            match item.key.split("/"):
                case [_, upload, project, *_, _]:
                    yield f"projects/{project}/uploads/{upload}", item.key

    async def delete(self, key: str) -> None:
        """Delete one of `keys`; no error when absent."""
        await self._objects.delete(key)

    def _parts(self, name: str) -> Blobs:
        return Blobs(self._objects, f"{_FOLDER}/{id_of(name)}")


async def verified(
    chunks: AsyncIterable[bytes], size: int, md5: str, sha256: str
) -> AsyncIterator[bytes]:
    """Pass bytes on; InvalidArgument at the end if they are not what the caller has sent.

    Digests are hexadecimal; empty ones are not looked at.
    """
    wanted = [
        ("md5", md5, hashlib.md5(usedforsecurity=False)),
        ("sha256", sha256, hashlib.sha256()),
    ]
    checks = [check for check in wanted if check[1]]
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        for _, _, digest in checks:
            digest.update(chunk)
        yield chunk
    check_size(seen, size)
    for field, given, digest in checks:
        if digest.hexdigest() != given.lower():
            raise InvalidArgument(
                f"{field} must be that of the bytes which have come, {digest.hexdigest()}",
                reason=f"{field.upper()}_MISMATCH",
                field=field,
            )


def check_size(size: int, announced: int, *, field: str | None = None) -> None:
    """Refuse bytes that are more or fewer than announced; `field` is the one at fault."""
    if size != announced:
        raise InvalidArgument(
            f"{size} bytes have come where {announced} were announced",
            reason="SIZE_MISMATCH",
            field=field,
        )


def _direct_key(name: str) -> str:
    return f"{_FOLDER}/{id_of(name)}/{project_of(name)}/direct"


async def _limited(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_PART_BYTES:
            raise InvalidArgument(
                f"a part has at most {MAX_PART_BYTES} bytes", reason="PART_TOO_LARGE", field="chunk"
            )
        yield chunk
    if size == 0:
        raise InvalidArgument("the part is empty", reason="EMPTY_PART", field="chunk")
