"""Bodies have a largest size, and a body beyond it is refused in OpenAI's form."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier_gateway.openai import errors

_FILE = "/v1/files"
_PART = re.compile(r"/v1/uploads/[^/]+/parts")

_PART_BYTES = 65 * 1024 * 1024
"""A part of an upload has 64 MiB at most; the rest is for the form around it."""
_OTHER_BYTES = 8 * 1024 * 1024


class BodyLimit:
    """Refuses too large a body: before it is read where its length is announced, else on the way.

    FastAPI's own limit answers in plain text, which tells the SDK nothing.
    """

    def __init__(self, app: ASGIApp, *, max_upload_bytes: int) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        limit = self._limit(scope)
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            refusal = errors.answer_http(errors.too_large(), scope["method"], scope["path"])
            await refusal(scope, receive, send)
            return
        seen = 0

        async def receive_some() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise errors.too_large()
            return message

        await self._app(scope, receive_some, send)

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "POST" and scope["path"] == _FILE:
            return self._max_upload_bytes
        if scope["method"] == "POST" and _PART.fullmatch(scope["path"]):
            return _PART_BYTES
        return _OTHER_BYTES
