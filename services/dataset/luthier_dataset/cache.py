"""Blobs on the local disk, for readers that need a file."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from luthier_common.objects.blobs import Blobs

_KEPT = 64
"""Files kept at most; the longest unused go first."""


class BlobCache:
    """Fetches blobs once and hands out their local paths, verified once a process."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._verified: dict[str, Path] = {}
        self._lock = asyncio.Lock()

    async def path(self, project: str, sha256: str) -> Path:
        """Return the path of a blob of the project; NotFound, DataLoss. Open it at once."""
        # Not shared between projects: who may read a digest is decided by its project.
        key = f"{project}-{sha256}"
        path = self._folder / key
        async with self._lock:
            if key not in self._verified or not path.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                if not path.exists() or await asyncio.to_thread(_digest, path) != sha256:
                    await self._blobs.fetch_to(project, sha256, path)
            self._verified.pop(key, None)
            self._verified[key] = path
            while len(self._verified) > _KEPT:
                self._verified.pop(next(iter(self._verified))).unlink(missing_ok=True)
        return path

    async def read(self, project: str, sha256: str) -> bytes:
        """Return a blob's bytes."""
        path = await self.path(project, sha256)
        return await asyncio.to_thread(path.read_bytes)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
