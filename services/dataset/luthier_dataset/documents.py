"""Documents: stored files, read into sections by a child process."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePath

from luthier.dataset.v1.dataset_pb2 import DatasetSource
from luthier_common.children import Child, spawn
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs

from luthier_dataset.readers.kinds import SUPPORTED, UNREADABLE, Kind, kind_of
from luthier_dataset.readers.section import Section, load

_CONCURRENT = 2
"""Readers at a time: parsing takes a core each."""
_LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class ReaderLimits:
    """What one reader may use; beyond it the document is refused."""

    document_bytes: int = 64 * 1024 * 1024
    memory_bytes: int = 1024 * 1024 * 1024
    cpu_seconds: int = 60
    wall_seconds: float = 120.0
    output_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True)
class Document:
    """A source of a dataset, read."""

    file: str
    """Resource name of the file."""
    title: str
    """The file's own name without its suffix; heads text that has no heading."""
    sections: tuple[Section, ...]


class Documents:
    """Reads stored files; a broken, hostile or endless one costs a child process, no more."""

    def __init__(self, blobs: Blobs, scratch: Path, limits: ReaderLimits | None = None) -> None:
        self._blobs = blobs
        self._scratch = scratch
        self._limits = limits or ReaderLimits()
        self._slots = asyncio.Semaphore(_CONCURRENT)

    async def read(self, source: DatasetSource) -> Document:
        """Return the sections of a pinned file.

        InvalidArgument: no reader for its name, or too large. FailedPrecondition: empty, or not
        what its name claims. Both name the file.
        """
        kind = self._kind(source)
        async with self._slots:
            with tempfile.TemporaryDirectory(dir=self._folder(), prefix="reader-") as folder:
                document, target = Path(folder, "document"), Path(folder, "sections")
                await self._blobs.fetch_to(project_of(source.file), source.sha256, document)
                status = await self._run(source, kind, document, target)
                sections = self._result(source, status, target)
        return Document(source.file, PurePath(source.display_name).stem, tuple(sections))

    def _kind(self, source: DatasetSource) -> Kind:
        kind = kind_of(source.display_name)
        if kind is None:
            raise InvalidArgument(
                f"{source.display_name} ({source.file}) cannot be read; "
                f"documents of these types can: {SUPPORTED}",
                reason="UNSUPPORTED_DOCUMENT",
                field="dataset.source_files",
            )
        if source.size_bytes > self._limits.document_bytes:
            raise InvalidArgument(
                f"{source.display_name} ({source.file}) has {source.size_bytes} bytes; "
                f"documents may have {self._limits.document_bytes} at most",
                reason="DOCUMENT_TOO_LARGE",
                field="dataset.source_files",
            )
        return kind

    async def _run(self, source: DatasetSource, kind: Kind, document: Path, target: Path) -> int:
        limits = self._limits
        most = (limits.memory_bytes, limits.cpu_seconds, limits.output_bytes)
        # A parser of foreign bytes gets no address and no secret of the platform.
        env = {key: value for key, value in os.environ.items() if not key.startswith("LUTHIER_")}
        arguments = map(str, (kind, document, target, *most))
        child: Child = await spawn(
            sys.executable,
            "-m",
            "luthier_dataset.readers",
            *arguments,
            env=env,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with child:
            try:
                async with asyncio.timeout(limits.wall_seconds):
                    return await child.wait()
            except TimeoutError as error:
                child.kill()
                raise _unreadable(
                    source, f"reading it took longer than {limits.wall_seconds:.0f} seconds"
                ) from error

    def _result(self, source: DatasetSource, status: int, target: Path) -> list[Section]:
        if status == 0:
            return load(target.read_bytes())
        if status == UNREADABLE:
            raise _unreadable(source, target.read_text(encoding="utf-8")[:_LONGEST_MESSAGE])
        raise _unreadable(source, "its reader broke down or used more memory or time than allowed")

    def _folder(self) -> Path:
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch


def _unreadable(source: DatasetSource, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{source.display_name} ({source.file}) cannot be read: {why}",
        reason="UNREADABLE_DOCUMENT",
        field="dataset.source_files",
        metadata={"file": source.file},
    )
