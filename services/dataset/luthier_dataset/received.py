"""Bytes that come in as a stream of requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

from luthier.dataset.v1.file_service_pb2 import CreateFileRequest
from luthier.dataset.v1.upload_service_pb2 import AddUploadPartRequest
from luthier_common.errors import InvalidArgument


async def chunks_of(
    first: CreateFileRequest | AddUploadPartRequest,
    requests: AsyncIterator[CreateFileRequest] | AsyncIterator[AddUploadPartRequest],
) -> AsyncIterator[bytes]:
    """Yield the chunks of requests up to the last; InvalidArgument if it does not come.

    A caller who is cut off looks like one who has sent all, but for that.
    """
    yield first.chunk
    if first.last:
        return
    async for request in requests:
        yield request.chunk
        if request.last:
            return
    raise InvalidArgument(
        "the bytes break off: the last message must say that it is the last",
        reason="STREAM_BROKEN_OFF",
        field="last",
    )
