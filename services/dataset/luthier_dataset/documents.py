"""Documents: stored files, read into items by child processes with limits."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import msgspec
from luthier.dataset.v1.dataset_pb2 import DatasetSource
from luthier_common.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs

from luthier_dataset.pool import ChildDied, Pool, without_secrets
from luthier_dataset.readers.job import EXIT_MEMORY, EXIT_OUTPUT, Reading, ReadJob
from luthier_dataset.readers.kinds import SUPPORTED, Kind, kind_of

_LONGEST_MESSAGE = 500
_LONGEST_NAME = 200
"""Bytes; a file may be called by 255, some of which it needs while it is fetched."""
_MIB = 1024 * 1024
_KEPT_BYTES = 16 * _MIB
"""Memory that a reader keeps for the next page, rather than give it back after each one."""
_BROKE_DOWN = "its reader broke down over it"


@dataclass(frozen=True)
class ReaderLimits:
    """What reading one document may use; beyond it the document is refused."""

    document_bytes: int = 4 * 1024 * _MIB
    memory_bytes: int = 1024 * _MIB
    cpu_seconds: int = 60
    wall_seconds: float = 300.0
    seconds_per_mib: float = 0.5
    """Added to both times for each MiB of the document."""
    output_bytes: int = 256 * _MIB
    output_per_byte: int = 24
    """Added to the output for each byte of the document."""


class Documents:
    """Reads stored files; a broken, hostile or endless one costs a child process, no more.

    Open it for one build: the readers of one project's documents never see those of another.
    """

    def __init__(self, blobs: Blobs, *, readers: int, limits: ReaderLimits | None = None) -> None:
        self._blobs = blobs
        self._limits = limits or ReaderLimits()
        env = without_secrets()
        # glibc (mallopt(3), M_TOP_PAD): fewer page faults, which are a sixth of the time of a PDF.
        env["MALLOC_TOP_PAD_"] = str(_KEPT_BYTES)
        memory = str(self._limits.memory_bytes)
        self._pool = Pool("luthier_dataset.readers", [memory], size=readers, env=env, quiet=True)

    async def read(self, source: DatasetSource, target: Path, *, most_bytes: int = 0) -> Reading:
        """Write the items of a pinned file to `target`; see `Reading` and `ReadJob.most_bytes`.

        A document that cannot be read is no error here. InvalidArgument: no reader for its name,
        or too large. NotFound, DataLoss: its bytes are gone. ResourceExhausted: the disk is full.
        """
        kind = check_source(source, self._limits)
        with TemporaryDirectory(prefix="document-", dir=target.parent) as folder:
            # Under its own name: a source file's path is told, and its language by it.
            name = PurePath(source.display_name).name
            name = name.encode()[-_LONGEST_NAME:].decode(errors="ignore")
            document = Path(folder, "file" if name in ("", "..") else name)
            await self._blobs.fetch_to(project_of(source.file), source.sha256, document)
            job = self._job(source, kind, document, target)
            return await self._run(msgspec.structs.replace(job, most_bytes=most_bytes))

    async def _run(self, job: ReadJob) -> Reading:
        wall = self._limits.wall_seconds + (job.cpu_seconds - self._limits.cpu_seconds)
        for attempt in (1, 2):
            try:
                answer = await self._pool.run(msgspec.json.encode(job), timeout=wall)
                reading = msgspec.json.decode(answer, type=Reading)
            except TimeoutError:
                return Reading(unreadable=f"reading it took longer than {wall:.0f} seconds")
            except ChildDied as death:
                # What the document before left behind in the child may be to blame, once.
                if attempt == 2 or death.status in (-signal.SIGXCPU, EXIT_OUTPUT):
                    return Reading(unreadable=self._why(death.status, job))
            except (msgspec.MsgspecError, ValueError):
                return Reading(unreadable=_BROKE_DOWN)
            else:
                if reading.no_room:
                    message = "no room on the disk that builds work on"
                    raise ResourceExhausted(message, reason="DISK_FULL")
                return msgspec.structs.replace(
                    reading, unreadable=reading.unreadable[:_LONGEST_MESSAGE]
                )
        raise AssertionError("unreachable")

    def _why(self, status: int, job: ReadJob) -> str:
        """Say which limit a child met, from its exit status."""
        memory = self._limits.memory_bytes // _MIB
        return {
            EXIT_MEMORY: f"reading it takes more than {memory} MiB of memory",
            EXIT_OUTPUT: f"it unpacks to more than {job.output_bytes:,} bytes of text",
            -signal.SIGXCPU: f"reading it takes more than {job.cpu_seconds} seconds of computing",
            -signal.SIGKILL: "its reader was killed, perhaps as this machine is short of memory",
        }.get(status, _BROKE_DOWN)

    def _job(self, source: DatasetSource, kind: Kind, document: Path, target: Path) -> ReadJob:
        limits = self._limits
        more = limits.seconds_per_mib * source.size_bytes / _MIB
        return ReadJob(
            kind,
            str(document),
            str(target),
            cpu_seconds=limits.cpu_seconds + int(more),
            output_bytes=limits.output_bytes + limits.output_per_byte * source.size_bytes,
        )

    async def close(self) -> None:
        """End the readers; another reading would start new ones."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def check_source(source: DatasetSource, limits: ReaderLimits = ReaderLimits()) -> Kind:
    """Return the kind of a source; InvalidArgument naming it, if it cannot be read."""
    kind = Kind.JSONL if source.training_rows else kind_of(source.display_name)
    if kind is None:
        raise InvalidArgument(
            f"{source.display_name} ({source.file}) cannot be read; "
            f"documents of these types can: {SUPPORTED}",
            reason="UNSUPPORTED_DOCUMENT",
            field="dataset.source_files",
        )
    if source.size_bytes > limits.document_bytes:
        raise InvalidArgument(
            f"{source.display_name} ({source.file}) has {source.size_bytes} bytes; "
            f"documents may have {limits.document_bytes} at most",
            reason="DOCUMENT_TOO_LARGE",
            field="dataset.source_files",
        )
    return kind


def unreadable(source: DatasetSource, why: str) -> FailedPrecondition:
    """Return the error of a document that cannot be read."""
    return FailedPrecondition(
        f"{source.display_name} ({source.file}) cannot be read: {why}",
        reason="UNREADABLE_DOCUMENT",
        field="dataset.source_files",
        metadata={"file": source.file},
    )
