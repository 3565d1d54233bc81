"""The gRPC side of files: converts, calls, converts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import (
    CreateFileRequest,
    DeleteFileRequest,
    DownloadFileRequest,
    DownloadFileResponse,
    GetFileRequest,
    ListFilesRequest,
    ListFilesResponse,
)
from luthier.dataset.v1.file_service_pb2_grpc import FileServiceServicer
from luthier_common.errors import InvalidArgument
from luthier_common.identity import Role, current_identity
from luthier_common.names import parse

from luthier_dataset.files import PATTERN, Files
from luthier_dataset.received import chunks_of

_CHUNK_BYTES = 1024 * 1024


class FileService(FileServiceServicer):
    """Serves `luthier.dataset.v1.FileService`."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def CreateFile(self, request_iterator: Any, context: Any) -> File:
        """See the proto."""
        requests: AsyncIterator[CreateFileRequest] = aiter(request_iterator)
        first = await anext(requests)
        parse(first.parent, "projects/{project}", field="parent")
        made_by_service = first.file.purpose == File.Purpose.FINE_TUNE_RESULTS
        if made_by_service and current_identity().role is not Role.SERVICE:
            raise InvalidArgument(
                "files of purpose FINE_TUNE_RESULTS are made by training jobs",
                reason="INVALID_PURPOSE",
                field="file.purpose",
            )
        chunks = chunks_of(first, requests)
        return await self._files.create(first.parent, first.file, first.file_id, chunks)

    async def GetFile(self, request: GetFileRequest, context: Any) -> File:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._files.get(request.name, show_deleted=request.show_deleted)

    async def ListFiles(self, request: ListFilesRequest, context: Any) -> ListFilesResponse:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        page = self._files.list(
            request.parent,
            purpose=request.purpose,
            page_size=request.page_size,
            page_token=request.page_token,
            after=request.after,
            order_by=request.order_by,
            show_deleted=request.show_deleted,
        )
        return ListFilesResponse(files=page.items, next_page_token=page.next_page_token)

    async def DeleteFile(self, request: DeleteFileRequest, context: Any) -> File:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._files.delete(request.name)

    async def DownloadFile(
        self, request: DownloadFileRequest, context: Any
    ) -> AsyncIterator[DownloadFileResponse]:
        """See the proto."""
        parse(request.name, PATTERN)
        file = await self._files.get(request.name)
        async for data in self._files.content(file):
            for start in range(0, len(data), _CHUNK_BYTES):
                yield DownloadFileResponse(chunk=data[start : start + _CHUNK_BYTES])
