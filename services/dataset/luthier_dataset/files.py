"""Files: verified bytes first, then the record that makes them visible."""

from __future__ import annotations

from collections.abc import AsyncIterator

from luthier.dataset.v1.file_pb2 import File
from luthier_common.errors import AlreadyExists, InvalidArgument
from luthier_common.names import check_id, new_id, project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection

from luthier_dataset.metrics import Metrics
from luthier_dataset.rows import RowChecker

PATTERN = "projects/{project}/files/{file}"
_LONGEST_NAME = 255


class Files:
    """The files of all projects."""

    def __init__(
        self, records: Collection[File], blobs: Blobs, metrics: Metrics, *, max_bytes: int
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._metrics = metrics
        self._max_bytes = max_bytes

    async def create(
        self, parent: str, draft: File, file_id: str, chunks: AsyncIterator[bytes]
    ) -> File:
        """Store bytes and then their record; whatever fails before leaves no file.

        An empty `file_id` means a new one. The same file under the same id again is returned as
        it is; another one is AlreadyExists. InvalidArgument: bad name or purpose, no bytes, too
        many, or a training file with a bad row (see `rows`).
        """
        _check(draft)
        chosen = check_id(file_id, field="file_id") if file_id else new_id("file")
        name = f"{parent}/files/{chosen}"
        inspected = _inspect(chunks, draft.purpose, self._max_bytes)
        blob = await self._blobs.put_stream(project_of(parent), inspected)
        file = File(
            name=name,
            display_name=draft.display_name,
            purpose=draft.purpose,
            size_bytes=blob.size,
            sha256=blob.sha256,
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

    async def get(self, name: str) -> File:
        """Return a file's record; NotFound."""
        return await self._records.get(name)

    def list(
        self,
        parent: str,
        *,
        purpose: File.Purpose,
        page_size: int,
        page_token: str,
        after: str,
        order_by: str,
    ) -> Page[File]:
        """Return a page of a project's files; purpose 0 means any."""
        wanted = coerce_page_size(page_size, default=100, maximum=10_000)
        items: list[File] = []
        while True:
            # A collection's pages are smaller than those that OpenAI's contract lets callers ask.
            page = self._records.list(
                parent,
                where=(lambda file: file.purpose == purpose) if purpose else None,
                query=f"purpose={purpose}",
                order_by=order_by or "create_time desc",
                after=after or None,
                page_size=min(wanted - len(items), 1000),
                page_token=page_token,
            )
            items += page.items
            page_token = page.next_page_token
            if not page_token or len(items) == wanted:
                return Page(items, page_token, page.has_more)

    async def delete(self, name: str) -> None:
        """Delete a file's record; NotFound.

        The bytes stay for the collector of unreferenced blobs: other files with the same content
        share them, and jobs and datasets have pinned them by digest.
        """
        await self._records.delete(name)

    def content(self, file: File) -> AsyncIterator[bytes]:
        """Return a file's bytes; DataLoss at the end if they are not those that were stored."""
        return self._blobs.stream(project_of(file.name), file.sha256)


def _check(draft: File) -> None:
    name = draft.display_name
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidArgument(
            f"file.display_name must be 1 to {_LONGEST_NAME} printable characters",
            reason="INVALID_DISPLAY_NAME",
            field="file.display_name",
        )
    known = File.Purpose.values()
    if not draft.purpose or draft.purpose not in known:
        raise InvalidArgument(
            "file.purpose must be FINE_TUNE or USER_DATA",
            reason="INVALID_PURPOSE",
            field="file.purpose",
        )


async def _inspect(
    chunks: AsyncIterator[bytes], purpose: File.Purpose, max_bytes: int
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
    return (one.display_name, one.purpose, one.sha256) == (
        other.display_name,
        other.purpose,
        other.sha256,
    )
