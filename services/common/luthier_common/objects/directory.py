"""Objects in a directory of this machine: the store of `luthier up` and of tests.

A file is the object followed by a line with its size and SHA-256, so that one rename commits
both and damage is found on reading.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from luthier_common.disk import is_disk_full
from luthier_common.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.objects.port import ObjectInfo, check_key

_CHUNK_BYTES = 1 << 20
_SEAL = re.compile(rb"\n#luthier size=(\d{19}) sha256=([0-9a-f]{64})\n")
_SEAL_BYTES = len(b"\n#luthier size= sha256=\n") + 19 + 64
_UNFINISHED = ".unfinished"


class DirectoryObjects:
    """An ObjectStore below `root`, which is created on the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, data: bytes | AsyncIterable[bytes]) -> ObjectInfo:
        """See ObjectStore."""
        target = self._path(key)
        try:
            with self._errors(key):
                # A file that a crash leaves here is never listed or read.
                unfinished = self._root / _UNFINISHED / secrets.token_hex(16)
                await asyncio.to_thread(_make_folders, unfinished.parent)
                try:
                    size = await _write(unfinished, data)
                    await asyncio.to_thread(_commit, unfinished, target)
                finally:
                    await asyncio.to_thread(unfinished.unlink, missing_ok=True)
        except _SourceError as failed:
            raise failed.error from None
        return ObjectInfo(key, size)

    async def get(self, key: str) -> AsyncGenerator[bytes, None]:
        """See ObjectStore."""
        path = self._path(key)
        with self._errors(key):
            file = await asyncio.to_thread(path.open, "rb")
            try:
                size, expected = await asyncio.to_thread(_read_seal, file, key)
                digest = hashlib.sha256()
                while size > 0:
                    chunk = await asyncio.to_thread(file.read, min(size, _CHUNK_BYTES))
                    if not chunk:
                        raise _damaged(key)
                    size -= len(chunk)
                    digest.update(chunk)
                    yield chunk
                if digest.hexdigest() != expected:
                    raise _damaged(key)
            finally:
                file.close()

    async def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        path = self._path(key)
        with self._errors(key):
            return ObjectInfo(key, await asyncio.to_thread(_stored_size, path))

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        """See ObjectStore."""
        with self._errors(prefix):
            for key in await asyncio.to_thread(self._keys, prefix):
                # Deleted since the listing: no longer there to be listed.
                with contextlib.suppress(FileNotFoundError):
                    size = await asyncio.to_thread(_stored_size, self._root / key)
                    yield ObjectInfo(key, size)

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        path = self._path(key)
        with self._errors(key):
            await asyncio.to_thread(_delete, path)

    def presign_put(self, key: str, expires: timedelta) -> str:
        """See ObjectStore; nobody serves a directory."""
        raise FailedPrecondition(
            "direct uploads need an S3 object store, and this platform keeps its objects in a "
            "directory; upload in parts",
            reason="DIRECT_UPLOAD_UNSUPPORTED",
        )

    def describe(self) -> str:
        """See ObjectStore."""
        return f"objects in {self._root}"

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _keys(self, prefix: str) -> builtins.list[str]:
        below = self._root / prefix.rpartition("/")[0]
        if not below.resolve().is_relative_to(self._root.resolve()):
            raise InvalidArgument(f"'{prefix}' is no prefix", reason="INVALID_OBJECT_KEY")
        found = []
        for folder, subfolders, files in os.walk(below, onerror=_unless_gone):
            subfolders[:] = [name for name in subfolders if name != _UNFINISHED]
            relative = Path(folder).relative_to(self._root)
            found += [(relative / name).as_posix() for name in files]
        return sorted(key for key in found if key.startswith(prefix))

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._platform_error(error, key) from error

    def _platform_error(self, error: OSError, key: str) -> PlatformError:
        if is_disk_full(error):
            return ResourceExhausted(f"{self.describe()}: no space", reason="OBJECTS_FULL")
        match error.errno:
            case errno.ENOENT | errno.EISDIR | errno.ENOTDIR:
                return object_not_found(key)
            case _:
                text = f"{self.describe()}: {error.strerror} ({key})"
                return Unavailable(text, reason="OBJECTS_UNAVAILABLE")


class _SourceError(Exception):
    """What is to be stored cannot be read: no fault of the store's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def object_not_found(key: str) -> NotFound:
    """The one answer for an absent object."""
    return NotFound(f"object {key} was not found", reason="OBJECT_NOT_FOUND")


def _damaged(key: str) -> DataLoss:
    return DataLoss(f"object {key} is damaged", reason="OBJECT_DAMAGED")


async def _write(path: Path, data: bytes | AsyncIterable[bytes]) -> int:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        async for chunk in _chunks(data):
            digest.update(chunk)
            size += len(chunk)
            await asyncio.to_thread(file.write, chunk)
        seal = f"\n#luthier size={size:019d} sha256={digest.hexdigest()}\n"
        await asyncio.to_thread(_finish, file, seal.encode())
    return size


async def _chunks(data: bytes | AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    if isinstance(data, bytes):
        yield data
        return
    try:
        async for chunk in data:
            yield chunk
    except OSError as error:
        raise _SourceError(error) from error


def _finish(file: BinaryIO, seal: bytes) -> None:
    file.write(seal)
    file.flush()
    os.fsync(file.fileno())


def _commit(unfinished: Path, target: Path) -> None:
    _make_folders(target.parent)
    unfinished.replace(target)
    _sync_folder(target.parent)


def _delete(path: Path) -> None:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    _sync_folder(path.parent)


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents so that they outlive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stored_size(path: Path) -> int:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    return max(path.stat().st_size - _SEAL_BYTES, 0)


def _read_seal(file: BinaryIO, key: str) -> tuple[int, str]:
    """Return the size and digest the object was stored with; leaves the file at its start."""
    length = os.fstat(file.fileno()).st_size
    file.seek(max(length - _SEAL_BYTES, 0))
    seal = _SEAL.fullmatch(file.read())
    file.seek(0)
    if seal is None or int(seal[1]) != length - _SEAL_BYTES:
        raise _damaged(key)
    return int(seal[1]), seal[2].decode()


def _unless_gone(error: OSError) -> None:
    """A folder may go while others are listed; one that cannot be read is a store that is away."""
    if not isinstance(error, FileNotFoundError):
        raise error
