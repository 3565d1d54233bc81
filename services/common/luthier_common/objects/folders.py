"""Named blobs in a folder: what libraries want that open files by name."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from luthier_common.errors import DataLoss
from luthier_common.objects.blobs import Blobs


def folder_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 over the sorted lines `{sha256}  {path}`, as `sha256sum` prints them."""
    lines = sorted(f"{sha256}  {path}\n" for path, sha256 in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


async def fetch_folder(
    blobs: Blobs, project: str, files: Iterable[tuple[str, str]], folder: Path
) -> None:
    """Make `folder` hold the files, given as (path, SHA-256), fetching only what it lacks.

    Files that are there already are verified again. DataLoss when the store lacks the bytes, or
    when a path leads out of the folder.
    """
    for path, sha256 in files:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise DataLoss(f"a file may not be called {path!r}", reason="BAD_FILE_PATH")
        target = folder / path
        if await asyncio.to_thread(_sha256, target) != sha256:
            target.parent.mkdir(parents=True, exist_ok=True)
            await blobs.fetch_to(project, sha256, target)


def _sha256(path: Path) -> str:
    """Return the digest of a file, empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
