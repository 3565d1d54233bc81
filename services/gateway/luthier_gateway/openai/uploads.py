"""`/v1/uploads`: large files in parts, or straight to the object store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from luthier.dataset.v1 import file_pb2, file_service_pb2, upload_pb2, upload_service_pb2
from luthier_common.errors import InvalidArgument
from luthier_common.names import id_of
from pydantic import Field

from luthier_gateway.openai.files import purpose_name, refuse_expiry, to_file, uploaded_purpose
from luthier_gateway.openai.forms import form_of, forward
from luthier_gateway.openai.names import UPLOADS, resource
from luthier_gateway.owners import caller_parent, caller_project
from luthier_gateway.requests import Body, OwnersDependency, Text

router = APIRouter(prefix="/uploads")

_COMPLETING_SECONDS = 3600.0
"""The whole file is read, checked and stored before a completion is answered."""

_STATUSES = {
    upload_pb2.Upload.PENDING: "pending",
    upload_pb2.Upload.COMPLETED: "completed",
    upload_pb2.Upload.CANCELLED: "cancelled",
    upload_pb2.Upload.EXPIRED: "expired",
}


class UploadRequest(Body):
    """What will be uploaded; `direct`, an extension, asks for a URL to PUT it to."""

    filename: Text
    purpose: Text
    bytes: Annotated[int, Field(ge=1, lt=2**63)]
    mime_type: Text
    direct: bool = False
    expires_after: Any = None


class CompletionRequest(Body):
    """The parts in order; `sha256` is an extension."""

    part_ids: tuple[Text, ...] = ()
    md5: Text | None = None
    sha256: Text | None = None


@router.post("")
async def create_upload(body: UploadRequest, owners: OwnersDependency) -> dict[str, Any]:
    """Begin an upload."""
    if body.expires_after is not None:
        refuse_expiry()
    upload = upload_pb2.Upload(
        display_name=body.filename,
        purpose=uploaded_purpose(body.purpose),
        size_bytes=body.bytes,
        mime_type=body.mime_type,
        direct=body.direct,
    )
    request = upload_service_pb2.CreateUploadRequest(parent=caller_parent(), upload=upload)
    return to_upload(await owners.uploads.CreateUpload(request))


@router.get("/{upload_id}")
async def retrieve_upload(upload_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Return an upload with the parts that have arrived, to go on where it broke off.

    An extension.
    """
    name = resource(caller_project(), UPLOADS, upload_id)
    request = upload_service_pb2.GetUploadRequest(name=name)
    upload = await owners.uploads.GetUpload(request)
    shown = await _with_file(upload, owners)
    return shown | {"parts": [to_part(part, upload_id) for part in upload.parts]}


@router.post("/{upload_id}/parts")
async def add_part(upload_id: str, request: Request, owners: OwnersDependency) -> dict[str, Any]:
    """Store a part, which goes on to its owner while it still comes in."""
    name = resource(caller_project(), UPLOADS, upload_id)
    try:
        async with form_of(request, "data") as form:
            if not form.filename:
                raise form.missing()
            part = await forward(
                form.pieces(), lambda found: owners.uploads.AddUploadPart(_sent(name, found))
            )
    except InvalidArgument:
        # Of an upload that is not there, that is what the caller is told.
        await owners.uploads.GetUpload(upload_service_pb2.GetUploadRequest(name=name))
        raise
    return to_part(part, upload_id)


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str, owners: OwnersDependency, body: CompletionRequest | None = None
) -> dict[str, Any]:
    """Make the file; that of a direct upload needs no body."""
    body = body or CompletionRequest()
    name = resource(caller_project(), UPLOADS, upload_id)
    request = upload_service_pb2.CompleteUploadRequest(
        name=name,
        parts=[f"{name}/parts/{part}" for part in body.part_ids],
        md5=body.md5 or "",
        sha256=body.sha256 or "",
    )
    upload = await owners.uploads.CompleteUpload(request, timeout=_COMPLETING_SECONDS)
    return await _with_file(upload, owners)


@router.post("/{upload_id}/cancel")
async def cancel_upload(upload_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Give an upload up; the body, if any, says nothing."""
    name = resource(caller_project(), UPLOADS, upload_id)
    request = upload_service_pb2.CancelUploadRequest(name=name)
    return to_upload(await owners.uploads.CancelUpload(request))


def to_upload(upload: upload_pb2.Upload, file: file_pb2.File | None = None) -> dict[str, Any]:
    """Return an upload as OpenAI shows it; a direct one that has just begun has a `put_url`."""
    shown = {
        "id": id_of(upload.name),
        "object": "upload",
        "bytes": upload.size_bytes,
        "created_at": upload.create_time.seconds,
        "expires_at": upload.expire_time.seconds,
        "filename": upload.display_name,
        "purpose": purpose_name(upload.purpose),
        "status": _STATUSES.get(upload.state, "pending"),
        "file": to_file(file) if file else None,
    }
    return shown | {"put_url": upload.put_url} if upload.put_url else shown


def to_part(part: upload_pb2.UploadPart, upload_id: str) -> dict[str, Any]:
    """Return a part as OpenAI shows it, with its size and digest."""
    return {
        "id": id_of(part.name),
        "object": "upload.part",
        "created_at": part.create_time.seconds,
        "upload_id": upload_id,
        "bytes": part.size_bytes,
        "sha256": part.sha256,
    }


async def _with_file(upload: upload_pb2.Upload, owners: OwnersDependency) -> dict[str, Any]:
    if not upload.file:
        return to_upload(upload)
    # Completed is completed, also when the file was deleted since.
    request = file_service_pb2.GetFileRequest(name=upload.file, show_deleted=True)
    return to_upload(upload, await owners.files.GetFile(request))


async def _sent(
    name: str, pieces: AsyncIterator[bytes]
) -> AsyncIterator[upload_service_pb2.AddUploadPartRequest]:
    yield upload_service_pb2.AddUploadPartRequest(parent=name)
    async for piece in pieces:
        yield upload_service_pb2.AddUploadPartRequest(chunk=piece)
    yield upload_service_pb2.AddUploadPartRequest(last=True)
