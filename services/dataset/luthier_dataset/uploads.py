"""Uploads: files on their way, from the first part to the file or to the end of waiting.

Parts are named by their content, so that a part which is sent again is the same part. The file's
id follows from the upload's, so that a completion which is repeated, also after a crash, finds
the file that the first one has made.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.upload_pb2 import Upload, UploadPart
from luthier_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlatformError,
)
from luthier_common.names import id_of, new_id, parent_of
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection

from luthier_dataset.files import LONGEST_NAME, Files, check_draft
from luthier_dataset.staging import MAX_DIRECT_BYTES, Read, Staging, check_size, verified

PATTERN = "projects/{project}/uploads/{upload}"
PART_PATTERN = "projects/{project}/uploads/{upload}/parts/{part}"

_LIFETIME = timedelta(hours=1)
_GRACE = timedelta(hours=1)
"""What has expired stays this long, for completions that began in time."""
_KEPT = timedelta(days=1)
"""How long the record of an upload that ended is there to be asked for."""
_SWEEP_SECONDS = 300.0
_PAUSE_SECONDS = 1.0
"""Least time between two sweeps, so that many uploads that end together are one."""
_MOST_PARTS = 10_000
_DIGESTS = {"md5": re.compile(r"[0-9a-fA-F]{32}"), "sha256": re.compile(r"[0-9a-fA-F]{64}")}

logger = logging.getLogger(__name__)


class Uploads:
    """The uploads of all projects."""

    def __init__(
        self,
        records: Collection[Upload],
        parts: Collection[UploadPart],
        staging: Staging,
        files: Files,
    ) -> None:
        self._records = records
        self._parts = parts
        self._staging = staging
        self._files = files
        self._adding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._completing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ended = asyncio.Event()

    async def create(self, parent: str, draft: Upload) -> Upload:
        """Begin an upload; a direct one comes with the URL that takes its bytes.

        InvalidArgument; FailedPrecondition where the object store takes no direct uploads.
        """
        _check(draft, self._files.max_bytes)
        name = f"{parent}/uploads/{new_id('upload')}"
        # Before the record, which is not to be left where the store cannot do this.
        put_url = self._staging.presign(name, _LIFETIME) if draft.direct else ""
        upload = Upload(
            display_name=draft.display_name,
            purpose=draft.purpose,
            size_bytes=draft.size_bytes,
            mime_type=draft.mime_type,
            direct=draft.direct,
            state=Upload.State.PENDING,
        )
        upload.expire_time.FromDatetime(datetime.now(UTC) + _LIFETIME)
        created = await self._records.create(name, upload)
        created.put_url = put_url
        return created

    async def get(self, name: str) -> Upload:
        """Return an upload, with its parts while they count; NotFound."""
        upload = _seen(await self._records.get(name))
        if upload.state == Upload.State.PENDING:
            upload.parts.extend(self._parts.values(name))
        return upload

    def list(self, parent: str, *, page_size: int, page_token: str) -> Page[Upload]:
        """Return a page of a project's uploads, newest first."""
        page = self._records.list(
            parent,
            page_size=coerce_page_size(page_size, default=100),
            page_token=page_token,
        )
        return Page([_seen(item) for item in page.items], page.next_page_token, page.has_more)

    async def add_part(self, name: str, chunks: AsyncIterable[bytes]) -> UploadPart:
        """Store a part, or return the one with the same bytes; what fails leaves nothing.

        NotFound; FailedPrecondition unless the upload is PENDING and not direct; InvalidArgument
        when the part is empty, too large, or more than there is room for.
        """
        upload = _pending(await self._records.get(name))
        if upload.direct:
            raise FailedPrecondition(
                f"{name} is a direct upload: its bytes are PUT to its put_url",
                reason="UPLOAD_IS_DIRECT",
            )
        blob = await self._staging.put_part(name, self._fitting(upload, chunks))
        part_name = f"{name}/parts/part-{blob.sha256[:32]}"
        # One after the other, so that parts sent at once do not all find the same room.
        async with self._adding.setdefault(name, asyncio.Lock()):
            if blob.size > self._room(upload) and await self._late(upload, part_name) is None:
                await self._staging.delete_part(name, blob.sha256)
                raise _too_many(upload)
            part = UploadPart(size_bytes=blob.size, sha256=blob.sha256)
            try:
                return await self._parts.create(part_name, part)
            except AlreadyExists:
                return await self._parts.get(part_name)

    async def complete(self, name: str, parts: Sequence[str], md5: str, sha256: str) -> Upload:
        """Make the file of what has arrived; a COMPLETED upload is returned as it is.

        NotFound; FailedPrecondition unless the upload is PENDING and its bytes are there;
        InvalidArgument for parts and digests that do not make it, and as `Files.create`.
        """
        _check_digests(md5=md5, sha256=sha256)
        lock = self._completing.setdefault(name, asyncio.Lock())
        async with lock:
            upload = await self._records.get(name)
            if upload.state == Upload.State.COMPLETED:
                return upload
            _pending(upload)
            read = await (self._put(upload, parts) if upload.direct else self._sent(upload, parts))
            file = await self._files.create_from(
                parent_of(name),
                File(display_name=upload.display_name, purpose=upload.purpose),
                _file_id(name),
                lambda: verified(read(), upload.size_bytes, md5, sha256),
            )
            try:
                return await self._end(name, Upload.State.COMPLETED, file=file.name)
            except FailedPrecondition:
                # Cancelled through another process meanwhile.
                await self._files.delete(file.name)
                raise

    async def cancel(self, name: str) -> Upload:
        """Give an upload up; a CANCELLED one is returned as it is.

        NotFound; FailedPrecondition when it ended otherwise, or is just being completed.
        """
        if name in self._completing:
            raise FailedPrecondition(f"{name} is being completed", reason="UPLOAD_COMPLETING")
        upload = await self._records.get(name)
        if upload.state == Upload.State.CANCELLED:
            return upload
        _pending(upload)
        return await self._end(name, Upload.State.CANCELLED)

    async def run(self) -> None:
        """Sweep when an upload has ended, and from time to time, until cancelled."""
        while True:
            self._ended.clear()
            try:
                await self.sweep(datetime.now(UTC))
            except PlatformError as error:
                logger.warning("uploads are swept later: %s", error)
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                continue

    async def sweep(self, now: datetime) -> None:
        """Bring uploads to the end that is due at `now`, and delete what they have left."""
        for upload in self._records.values():
            if upload.state == Upload.State.PENDING:
                await self._settle(upload, now)
            elif upload.update_time.ToDatetime(UTC) + _KEPT < now:
                await self._records.delete(upload.name)
        pending: dict[str, bool] = {}
        for part in self._parts.values():
            if not await self._is_pending(parent_of(part.name), pending):
                await self._parts.delete(part.name)
        async for name, key in self._staging.keys():
            if not await self._is_pending(name, pending):
                await self._staging.delete(key)

    def _room(self, upload: Upload) -> int:
        """How many bytes a new part may have; parts may be replaced, but not without end."""
        arrived = [part.size_bytes for part in self._parts.values(upload.name)]
        return 2 * upload.size_bytes - sum(arrived) if len(arrived) < _MOST_PARTS else 0

    async def _fitting(self, upload: Upload, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Pass a part's bytes on until they are neither a new part nor one that has arrived."""
        arrived = [part.size_bytes for part in self._parts.values(upload.name)]
        most, size = max([self._room(upload), *arrived]), 0
        async for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise _too_many(upload)
            yield chunk

    async def _settle(self, upload: Upload, now: datetime) -> None:
        """Finish a completion that a crash has cut short, else see to the expiry."""
        file = f"{parent_of(upload.name)}/files/{_file_id(upload.name)}"
        try:
            await self._files.get(file, show_deleted=True)
        except NotFound:
            if upload.expire_time.ToDatetime(UTC) + _GRACE < now:
                await self._end(upload.name, Upload.State.EXPIRED)
        else:
            await self._end(upload.name, Upload.State.COMPLETED, file=file)

    async def _is_pending(self, name: str, known: dict[str, bool]) -> bool:
        # From the store, not the index: a new upload of another process must not lose its bytes.
        if name not in known:
            try:
                known[name] = (await self._records.get(name)).state == Upload.State.PENDING
            except NotFound:
                known[name] = False
        return known[name]

    async def _end(self, name: str, state: Upload.State, *, file: str = "") -> Upload:
        def change(upload: Upload) -> Upload | None:
            if upload.state == state:
                return None
            if upload.state != Upload.State.PENDING:
                raise _not_pending(upload)
            upload.state = state
            upload.file = file
            return upload

        ended = await self._records.update(name, change)
        self._ended.set()
        return ended

    async def _sent(self, upload: Upload, names: Sequence[str]) -> Read:
        arrived = {part.name: part for part in self._parts.values(upload.name)}
        parts = []
        for place, name in enumerate(names):
            part = arrived.get(name) or await self._late(upload, name)
            if part is None:
                raise InvalidArgument(
                    f"parts[{place}] must be a part of this upload",
                    reason="PART_NOT_FOUND",
                    field=f"parts[{place}]",
                )
            parts.append(part)
        check_size(sum(part.size_bytes for part in parts), upload.size_bytes, field="parts")
        return self._staging.joined(upload.name, [part.sha256 for part in parts])

    async def _late(self, upload: Upload, name: str) -> UploadPart | None:
        """A part that another process has just stored, so that the index may lack it yet."""
        if parent_of(name) != upload.name:
            return None
        try:
            return await self._parts.get(name)
        except (NotFound, InvalidArgument):
            return None

    async def _put(self, upload: Upload, names: Sequence[str]) -> Read:
        if names:
            raise InvalidArgument(
                "parts must be empty: a direct upload has none",
                reason="UPLOAD_IS_DIRECT",
                field="parts",
            )
        try:
            size = await self._staging.direct_size(upload.name)
        except NotFound as error:
            raise FailedPrecondition(
                f"nothing has been PUT to the put_url of {upload.name} yet",
                reason="UPLOAD_NOT_STORED",
            ) from error
        check_size(size, upload.size_bytes)
        return self._staging.direct(upload.name)


def _file_id(name: str) -> str:
    return id_of(name).replace("upload-", "file-", 1)


def _seen(upload: Upload) -> Upload:
    """Return the upload as it stands now, also where nobody has written down that it expired."""
    expired = upload.expire_time.ToDatetime(UTC) <= datetime.now(UTC)
    if expired and upload.state == Upload.State.PENDING:
        upload.state = Upload.State.EXPIRED
    return upload


def _pending(upload: Upload) -> Upload:
    if _seen(upload).state != Upload.State.PENDING:
        raise _not_pending(upload)
    return upload


def _not_pending(upload: Upload) -> FailedPrecondition:
    state = Upload.State.Name(upload.state)
    return FailedPrecondition(
        f"{upload.name} is {state}", reason=f"UPLOAD_{state}", metadata={"state": state}
    )


def _too_many(upload: Upload) -> InvalidArgument:
    return InvalidArgument(
        f"the parts have more than twice the {upload.size_bytes} bytes that were announced, "
        f"or are more than {_MOST_PARTS}",
        reason="TOO_MANY_PARTS",
        field="chunk",
    )


def _check(draft: Upload, max_bytes: int) -> None:
    check_draft(File(display_name=draft.display_name, purpose=draft.purpose), field="upload")
    if draft.purpose == File.Purpose.FINE_TUNE_RESULTS:
        raise _invalid("purpose", "must be FINE_TUNE or USER_DATA", "INVALID_PURPOSE")
    if draft.size_bytes <= 0:
        raise _invalid("size_bytes", "must be at least 1", "INVALID_SIZE")
    if draft.size_bytes > max_bytes:
        raise _invalid("size_bytes", f"must be at most {max_bytes}", "FILE_TOO_LARGE")
    if draft.direct and draft.size_bytes > MAX_DIRECT_BYTES:
        raise _invalid(
            "size_bytes",
            f"must be at most {MAX_DIRECT_BYTES} for a direct upload, which is a single PUT; "
            "upload in parts",
            "DIRECT_UPLOAD_TOO_LARGE",
        )
    if len(draft.mime_type) > LONGEST_NAME or not draft.mime_type.isprintable():
        raise _invalid(
            "mime_type", f"must be at most {LONGEST_NAME} printable characters", "INVALID_MIME_TYPE"
        )


def _check_digests(**given: str) -> None:
    for field, digest in given.items():
        if digest and _DIGESTS[field].fullmatch(digest) is None:
            raise InvalidArgument(
                f"{field} must be hexadecimal digits, as many as it has",
                reason="INVALID_DIGEST",
                field=field,
            )


def _invalid(field: str, what: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"upload.{field} {what}", reason=reason, field=f"upload.{field}")
