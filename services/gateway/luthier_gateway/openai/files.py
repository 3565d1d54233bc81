"""`/v1/files`: uploads pass through piece by piece, and so do downloads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from luthier.dataset.v1 import file_pb2, file_service_pb2
from luthier_common.names import id_of

from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.forms import Form, form_of, forward
from luthier_gateway.openai.names import FILES, cursor, resource
from luthier_gateway.openai.pages import gather, page
from luthier_gateway.owners import caller_parent, caller_project
from luthier_gateway.requests import After, Order, OwnersDependency, order_by

router = APIRouter(prefix="/files")

_UPLOADED: dict[str, file_pb2.File.Purpose] = {
    "fine-tune": file_pb2.File.FINE_TUNE,
    "user_data": file_pb2.File.USER_DATA,
}
_PURPOSES = _UPLOADED | {"fine-tune-results": file_pb2.File.FINE_TUNE_RESULTS}
_PURPOSE_NAMES = {value: name for name, value in _PURPOSES.items()}


@router.post("")
async def create_file(request: Request, owners: OwnersDependency) -> dict[str, Any]:
    """Store an upload, which goes on to its owner while it still comes in."""
    async with form_of(request, "file", needs=("purpose",)) as form:
        purpose = uploaded_purpose(form.get("purpose"))
        if not form.filename:
            raise form.missing()
        _refuse_expiry_in(form)
        draft = file_pb2.File(display_name=form.filename, purpose=purpose)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in form.pieces():
                yield piece
            _refuse_expiry_in(form)

        file = await forward(pieces(), lambda found: owners.files.CreateFile(_sent(draft, found)))
    return to_file(file)


@router.get("")
async def list_files(
    owners: OwnersDependency,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Order = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    """List the project's files; of a purpose that this platform has no files for: none."""
    if purpose is not None and purpose not in _PURPOSES:
        return page([])

    async def fetch(size: int, token: str) -> tuple[list[file_pb2.File], str]:
        found = await owners.files.ListFiles(
            file_service_pb2.ListFilesRequest(
                parent=caller_parent(),
                page_size=size,
                page_token=token,
                after=cursor(caller_project(), FILES, after),
                order_by=order_by(order),
                purpose=_PURPOSES[purpose] if purpose else file_pb2.File.PURPOSE_UNSPECIFIED,
            )
        )
        return list(found.files), found.next_page_token

    files, has_more = await gather(fetch, limit)
    return page([to_file(file) for file in files], has_more)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Return what is known of a file."""
    name = resource(caller_project(), FILES, file_id)
    return to_file(await owners.files.GetFile(file_service_pb2.GetFileRequest(name=name)))


@router.delete("/{file_id}")
async def delete_file(file_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Delete a file; `dependents`, an extension, are the datasets made of it or minting it."""
    name = resource(caller_project(), FILES, file_id)
    file = await owners.files.DeleteFile(file_service_pb2.DeleteFileRequest(name=name))
    dependents = [id_of(dataset) for dataset in file.dependents]
    return {"id": file_id, "object": "file", "deleted": True, "dependents": dependents}


@router.get("/{file_id}/content")
async def file_content(file_id: str, owners: OwnersDependency) -> StreamingResponse:
    """Return a file's bytes.

    The length is announced, so that a download that breaks off cannot pass for a whole one.
    """
    name = resource(caller_project(), FILES, file_id)
    file = await owners.files.GetFile(file_service_pb2.GetFileRequest(name=name))
    chunks = aiter(owners.files.DownloadFile(file_service_pb2.DownloadFileRequest(name=name)))
    # Failures up to here still have a status of their own.
    first = await anext(chunks, file_service_pb2.DownloadFileResponse())

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(chunks):  # type: ignore[type-var]
            yield first.chunk
            async for message in chunks:
                yield message.chunk

    headers = {
        "content-length": str(file.size_bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.display_name, safe='')}",
    }
    return StreamingResponse(body(), media_type="application/octet-stream", headers=headers)


def to_file(file: file_pb2.File) -> dict[str, Any]:
    """Return a file as OpenAI shows it; it was checked before it came to exist."""
    return {
        "id": id_of(file.name),
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.create_time.seconds,
        "filename": file.display_name,
        "purpose": purpose_name(file.purpose),
        "status": "processed",
        "status_details": None,
    }


def purpose_name(purpose: file_pb2.File.Purpose) -> str:
    """Return OpenAI's word for what a file is for."""
    return _PURPOSE_NAMES.get(purpose, "user_data")


def uploaded_purpose(given: object) -> file_pb2.File.Purpose:
    """Return the purpose that an upload gives; InvalidArgument for what nobody may upload."""
    if given is None:
        raise invalid("purpose is required", "purpose", reason="MISSING_REQUIRED_PARAMETER")
    if not isinstance(given, str) or given not in _UPLOADED:
        known = ", ".join(_UPLOADED)
        raise invalid(f"purpose must be one of {known}", "purpose", reason="INVALID_PURPOSE")
    return _UPLOADED[given]


def refuse_expiry() -> NoReturn:
    """Refuse OpenAI's `expires_after`."""
    raise invalid(
        "expires_after is not supported: files are kept until they are deleted",
        "expires_after",
        reason="UNSUPPORTED_PARAMETER",
    )


def _refuse_expiry_in(form: Form) -> None:
    if any(name.partition("[")[0] == "expires_after" for name in form.names()):
        refuse_expiry()


async def _sent(
    draft: file_pb2.File, pieces: AsyncIterator[bytes]
) -> AsyncIterator[file_service_pb2.CreateFileRequest]:
    yield file_service_pb2.CreateFileRequest(parent=caller_parent(), file=draft)
    async for piece in pieces:
        yield file_service_pb2.CreateFileRequest(chunk=piece)
    yield file_service_pb2.CreateFileRequest(last=True)
