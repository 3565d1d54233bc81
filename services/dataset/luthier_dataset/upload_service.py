"""The gRPC side of uploads: converts, calls, converts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from luthier.dataset.v1.upload_pb2 import Upload, UploadPart
from luthier.dataset.v1.upload_service_pb2 import (
    AddUploadPartRequest,
    CancelUploadRequest,
    CompleteUploadRequest,
    CreateUploadRequest,
    GetUploadRequest,
    ListUploadsRequest,
    ListUploadsResponse,
)
from luthier.dataset.v1.upload_service_pb2_grpc import UploadServiceServicer
from luthier_common.names import parse

from luthier_dataset.received import chunks_of
from luthier_dataset.uploads import PATTERN, Uploads


class UploadService(UploadServiceServicer):
    """Serves `luthier.dataset.v1.UploadService`."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def CreateUpload(self, request: CreateUploadRequest, context: Any) -> Upload:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        return await self._uploads.create(request.parent, request.upload)

    async def GetUpload(self, request: GetUploadRequest, context: Any) -> Upload:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._uploads.get(request.name)

    async def ListUploads(self, request: ListUploadsRequest, context: Any) -> ListUploadsResponse:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        page = self._uploads.list(
            request.parent, page_size=request.page_size, page_token=request.page_token
        )
        return ListUploadsResponse(uploads=page.items, next_page_token=page.next_page_token)

    async def AddUploadPart(self, request_iterator: Any, context: Any) -> UploadPart:
        """See the proto."""
        requests: AsyncIterator[AddUploadPartRequest] = aiter(request_iterator)
        first = await anext(requests)
        parse(first.parent, PATTERN, field="parent")
        return await self._uploads.add_part(first.parent, chunks_of(first, requests))

    async def CompleteUpload(self, request: CompleteUploadRequest, context: Any) -> Upload:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._uploads.complete(
            request.name, request.parts, request.md5, request.sha256
        )

    async def CancelUpload(self, request: CancelUploadRequest, context: Any) -> Upload:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._uploads.cancel(request.name)
