"""Blobs on the local disk, for readers that need a file."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from luthier_common.objects.blobs import Blobs

_KEPT_FILES, _KEPT_BYTES = 64, 4 * 1024**3
"""What is kept at most; the longest unused go first, and the one just fetched stays."""


class BlobCache:
    """Fetches blobs once, verified, and hands out their local paths."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        """The folder is emptied: nobody has verified what an earlier process left there."""
        shutil.rmtree(folder, ignore_errors=True)
        self._blobs = blobs
        self._folder = folder
        self._sizes: dict[str, int] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}

    async def path(self, project: str, sha256: str) -> Path:
        """Return the path of a blob of the project; NotFound, DataLoss. Open it at once."""
        # Not shared between projects: who may read a digest is decided by its project.
        key = f"{project}-{sha256}"
        path = self._folder / key
        if key in self._sizes and path.exists():
            self._sizes[key] = self._sizes.pop(key)
            return path
        if key not in self._fetches:
            self._fetches[key] = asyncio.create_task(self._fetch(project, sha256, path))
        # Not ended with the caller, so that who asks again does not begin at the first byte.
        await asyncio.shield(self._fetches[key])
        return path

    async def read(self, project: str, sha256: str) -> bytes:
        """Return a blob's bytes."""
        path = await self.path(project, sha256)
        return await asyncio.to_thread(path.read_bytes)

    async def _fetch(self, project: str, sha256: str, path: Path) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            await self._blobs.fetch_to(project, sha256, path)
            self._keep(path)
        finally:
            del self._fetches[path.name]

    def _keep(self, path: Path) -> None:
        self._sizes.pop(path.name, None)
        self._sizes[path.name] = path.stat().st_size
        while len(self._sizes) > 1 and (
            len(self._sizes) > _KEPT_FILES or sum(self._sizes.values()) > _KEPT_BYTES
        ):
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            (self._folder / oldest).unlink(missing_ok=True)
