"""Files: verified bytes first, then the record that makes them visible."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence

from luthier.dataset.v1.file_pb2 import File
from luthier_common.errors import AlreadyExists, InvalidArgument, not_found
from luthier_common.names import check_id, new_id, parent_of, project_of
from luthier_common.objects.blobs import Blob, Blobs, digest_of
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection

from luthier_dataset.metrics import Metrics
from luthier_dataset.rows import RowChecker

PATTERN = "projects/{project}/files/{file}"
LONGEST_NAME = 255

DependentsOf = Callable[[File], list[str]]
"""Names the datasets that are there and have the file as a source, or minted it."""


class Files:
    """The files of all projects."""

    def __init__(
        self,
        records: Collection[File],
        blobs: Blobs,
        metrics: Metrics,
        *,
        max_bytes: int,
        dependents_of: DependentsOf,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._metrics = metrics
        self.max_bytes = max_bytes
        self._dependents_of = dependents_of

    async def create(
        self,
        parent: str,
        draft: File,
        file_id: str,
        chunks: AsyncIterable[bytes],
        *,
        dataset: str = "",
    ) -> File:
        """Store bytes and then their record; whatever fails before leaves no file.

        An empty `file_id` means a new one. The same file under the same id again is returned as
        it is; another one, or one that was deleted, is AlreadyExists. `dataset` is the one that
        mints the file. InvalidArgument: bad name or purpose, no bytes, too many, or a training
        file with a bad row (see `rows`).
        """
        name = _name(parent, draft, file_id)
        inspected = _inspect(chunks, draft.purpose, self.max_bytes)
        blob = await self._blobs.put_stream(project_of(parent), inspected)
        return await self._record(name, draft, blob, dataset)

    async def create_from(
        self,
        parent: str,
        draft: File,
        file_id: str,
        read: Callable[[], AsyncIterable[bytes]],
        *,
        dataset: str = "",
    ) -> File:
        """As `create`, from bytes that can be read again: they need no room on this machine.

        Aborted when they change between two readings.
        """
        name = _name(parent, draft, file_id)
        blob = await digest_of(_inspect(read(), draft.purpose, self.max_bytes))
        await self._blobs.put_known(project_of(parent), blob, read)
        return await self._record(name, draft, blob, dataset)

    async def get(self, name: str, *, show_deleted: bool = False) -> File:
        """Return a file's record; NotFound, for a deleted one unless it is asked for."""
        file = await self._records.get(name)
        if file.HasField("delete_time") and not show_deleted:
            raise not_found(name)
        return file

    def minted_by(self, dataset: str) -> Sequence[File]:
        """Return the files that a dataset has minted and that are not deleted."""
        return [
            file
            for file in self._records.values(parent_of(dataset))
            if file.dataset == dataset and not file.HasField("delete_time")
        ]

    def digests(self, parent: str) -> dict[str, str]:
        """Return the digest of every file of a project, deleted ones included, by name."""
        return {file.name: file.sha256 for file in self._records.values(parent)}

    def list(
        self,
        parent: str,
        *,
        purpose: File.Purpose,
        page_size: int,
        page_token: str,
        after: str,
        order_by: str,
        show_deleted: bool = False,
    ) -> Page[File]:
        """Return a page of a project's files; purpose 0 means any."""

        def wanted(file: File) -> bool:
            there = show_deleted or not file.HasField("delete_time")
            return there and (not purpose or file.purpose == purpose)

        size = coerce_page_size(page_size, default=100, maximum=10_000)
        items: list[File] = []
        while True:
            # A collection's pages are smaller than those that OpenAI's contract lets callers ask.
            page = self._records.list(
                parent,
                where=wanted,
                query=f"purpose={purpose} show_deleted={show_deleted}",
                order_by=order_by or "create_time desc",
                after=after or None,
                page_size=min(size - len(items), 1000),
                page_token=page_token,
            )
            items += page.items
            page_token = page.next_page_token
            if not page_token or len(items) == size:
                return Page(items, page_token, page.has_more)

    async def delete(self, name: str) -> File:
        """Mark a file as deleted and return the record, which names its dependents; NotFound.

        The bytes stay for the collector of unreferenced blobs: other files with the same content
        share them, and jobs and datasets have pinned them by digest.
        """

        def bury(file: File) -> File:
            if file.HasField("delete_time"):
                raise not_found(name)
            file.delete_time.GetCurrentTime()
            file.dependents[:] = self._dependents_of(file)
            return file

        return await self._records.update(name, bury)

    def content(self, file: File) -> AsyncIterator[bytes]:
        """Return a file's bytes; DataLoss at the end if they are not those that were stored."""
        return self._blobs.stream(project_of(file.name), file.sha256)

    async def _record(self, name: str, draft: File, blob: Blob, dataset: str) -> File:
        file = File(
            name=name,
            display_name=draft.display_name,
            purpose=draft.purpose,
            size_bytes=blob.size,
            sha256=blob.sha256,
            dataset=dataset,
        )
        try:
            stored = await self._records.create(name, file)
        except AlreadyExists:
            stored = await self._records.get(name)
            if not _same(stored, file):
                raise
            return stored
        self._metrics.files.labels(File.Purpose.Name(file.purpose)).inc()
        self._metrics.file_bytes.inc(blob.size)
        return stored


def check_draft(draft: File, *, field: str = "file") -> None:
    """Refuse a name or a purpose that no file has; `field` is what the request calls the draft."""
    name = draft.display_name
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidArgument(
            f"{field}.display_name must be 1 to {LONGEST_NAME} printable characters",
            reason="INVALID_DISPLAY_NAME",
            field=f"{field}.display_name",
        )
    if not draft.purpose or draft.purpose not in File.Purpose.values():
        raise InvalidArgument(
            f"{field}.purpose must be FINE_TUNE or USER_DATA",
            reason="INVALID_PURPOSE",
            field=f"{field}.purpose",
        )


def _name(parent: str, draft: File, file_id: str) -> str:
    check_draft(draft)
    chosen = check_id(file_id, field="file_id") if file_id else new_id("file")
    return f"{parent}/files/{chosen}"


async def _inspect(
    chunks: AsyncIterable[bytes], purpose: File.Purpose, max_bytes: int
) -> AsyncIterator[bytes]:
    """Pass bytes on, raising at the first sign that they are no file to store."""
    checker = RowChecker() if purpose == File.Purpose.FINE_TUNE else None
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise InvalidArgument(
                f"the file has more than {max_bytes} bytes", reason="FILE_TOO_LARGE", field="file"
            )
        if checker is not None:
            checker.feed(chunk)
        if chunk:
            yield chunk
    if size == 0:
        raise InvalidArgument("the file is empty", reason="EMPTY_FILE", field="file")
    if checker is not None:
        checker.finish()


def _same(one: File, other: File) -> bool:
    return not one.HasField("delete_time") and (
        one.display_name,
        one.purpose,
        one.sha256,
        one.dataset,
    ) == (other.display_name, other.purpose, other.sha256, other.dataset)
