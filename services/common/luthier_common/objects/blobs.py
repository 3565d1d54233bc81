"""Content-addressed bytes of a project: what a digest names, or an error, never anything else."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from luthier_common.disk import is_disk_full
from luthier_common.errors import Aborted, DataLoss, InvalidArgument, NotFound, ResourceExhausted
from luthier_common.names import check_id
from luthier_common.objects.port import ObjectStore

_CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Blob:
    """What was stored."""

    sha256: str
    """Lower-case hexadecimal."""
    size: int
    """Bytes."""


class Blobs:
    """Blobs of all projects in one object store; equal bytes of one project are stored once.

    They lie below `folder`. Besides the errors named below, every method raises those of the
    store.
    """

    def __init__(self, store: ObjectStore, folder: str = "blobs") -> None:
        self._store = store
        self._folder = folder

    async def put_bytes(self, project: str, data: bytes) -> Blob:
        """Store and verify."""
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        if not await self._is_intact(project, blob):
            await self._store.put(self._key(project, blob.sha256), data)
            await self._verify(project, blob)
        return blob

    async def put_file(self, project: str, path: Path) -> Blob:
        """Store and verify; Aborted if the file changes meanwhile."""
        blob = await digest_of(_read_file(path))
        await self.put_known(project, blob, lambda: _read_file(path))
        return blob

    async def put_known(
        self, project: str, blob: Blob, read: Callable[[], AsyncIterable[bytes]]
    ) -> None:
        """Store what `read` yields, which is known to be `blob`, and verify.

        Aborted, and nothing is stored, if it turns out to be something else.
        """
        if not await self._is_intact(project, blob):
            await self._store.put(self._key(project, blob.sha256), _unchanged(read(), blob))
            await self._verify(project, blob)

    async def put_stream(
        self, project: str, chunks: AsyncIterable[bytes], *, max_bytes: int | None = None
    ) -> Blob:
        """Store and verify; InvalidArgument BLOB_TOO_LARGE beyond `max_bytes`.

        The bytes pass through a temporary file, since the digest is known only at the end.
        """
        with tempfile.TemporaryDirectory(prefix="luthier-blob-") as folder:
            path, size = Path(folder) / "blob", 0
            with path.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if max_bytes is not None and size > max_bytes:
                        raise _too_large(max_bytes)
                    await _write(file, chunk)
            return await self.put_file(project, path)

    async def stream(self, project: str, sha256: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes; DataLoss when missing, or after the last chunk when damaged."""
        digest = hashlib.sha256()
        try:
            async with contextlib.aclosing(self._store.get(self._key(project, sha256))) as chunks:
                async for chunk in chunks:
                    digest.update(chunk)
                    yield chunk
        except NotFound as error:
            raise DataLoss(
                f"blob {sha256} of {project} is missing", reason="BLOB_MISSING"
            ) from error
        if digest.hexdigest() != sha256:
            raise DataLoss(f"blob {sha256} of {project} is damaged", reason="BLOB_DAMAGED")

    async def read(self, project: str, sha256: str, *, max_bytes: int | None = None) -> bytes:
        """Return the verified bytes; DataLoss, InvalidArgument beyond `max_bytes`."""
        data = bytearray()
        async with contextlib.aclosing(self.stream(project, sha256)) as chunks:
            async for chunk in chunks:
                data += chunk
                if max_bytes is not None and len(data) > max_bytes:
                    raise _too_large(max_bytes)
        return bytes(data)

    async def fetch_to(self, project: str, sha256: str, path: Path) -> None:
        """Write the verified bytes to `path`, which appears whole or not at all; DataLoss."""
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with unfinished.open("xb") as file:
                async for chunk in self.stream(project, sha256):
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    async def exists(self, project: str, sha256: str) -> bool:
        """Return whether it is stored, without verifying it."""
        try:
            await self._store.stat(self._key(project, sha256))
        except NotFound:
            return False
        return True

    async def delete(self, project: str, sha256: str) -> None:
        """Delete; no error when absent."""
        await self._store.delete(self._key(project, sha256))

    async def _is_intact(self, project: str, blob: Blob) -> bool:
        try:
            await self._verify(project, blob)
        except DataLoss:
            # Missing or damaged; either way we hold the right bytes now.
            return False
        return True

    async def _verify(self, project: str, blob: Blob) -> None:
        async for _ in self.stream(project, blob.sha256):
            pass

    def _key(self, project: str, sha256: str) -> str:
        check_id(project, field="project")
        if _DIGEST.fullmatch(sha256) is None:
            raise InvalidArgument(
                "sha256 must be 64 hexadecimal digits", reason="INVALID_DIGEST", field="sha256"
            )
        return f"{self._folder}/{project}/sha256/{sha256}"


async def digest_of(chunks: AsyncIterable[bytes]) -> Blob:
    """Return what a blob of these bytes would be."""
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return Blob(digest.hexdigest(), size)


async def _unchanged(chunks: AsyncIterable[bytes], blob: Blob) -> AsyncGenerator[bytes, None]:
    digest = hashlib.sha256()
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != blob.sha256:
        raise Aborted("the bytes changed while they were stored", reason="SOURCE_CHANGED")


async def _read_file(path: Path) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk


async def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        await asyncio.to_thread(file.write, chunk)
    except OSError as error:
        if is_disk_full(error):
            message = "no room on the disk that bytes pass through"
            raise ResourceExhausted(message, reason="DISK_FULL") from error
        raise


def _too_large(max_bytes: int) -> InvalidArgument:
    return InvalidArgument(
        f"larger than {max_bytes} bytes",
        reason="BLOB_TOO_LARGE",
        metadata={"max_bytes": str(max_bytes)},
    )
