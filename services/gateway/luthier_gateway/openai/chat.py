"""`/v1/chat/completions`: answers of base and tuned models, whole or streamed."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from luthier.inference.v1.generation_service_pb2 import StreamChatResponse
from luthier_common.errors import Internal, PlatformError
from starlette.types import Receive, Scope, Send

from luthier_gateway.hanging_up import CALLER_GONE, unless_hung_up
from luthier_gateway.metrics import RestMetrics
from luthier_gateway.openai import models
from luthier_gateway.openai.chat_request import ChatRequest
from luthier_gateway.openai.chat_views import Completion, reason_of
from luthier_gateway.openai.errors import body_of
from luthier_gateway.openai.merged import merged
from luthier_gateway.owners import Owners, caller_parent
from luthier_gateway.requests import MetricsDependency, OwnersDependency

Pieces = AsyncGenerator[tuple[int, StreamChatResponse], None]

router = APIRouter()
logger = logging.getLogger(__name__)


@router.post("/chat/completions")
async def create_completion(
    body: ChatRequest, request: Request, owners: OwnersDependency, metrics: MetricsDependency
) -> Response:
    """Answer a conversation; for a caller who hangs up, no more is written."""
    body.check()
    answer = await unless_hung_up(request, _answer(body, owners, metrics))
    return answer or Response(status_code=CALLER_GONE)


async def _answer(body: ChatRequest, owners: Owners, metrics: RestMetrics) -> Response:
    completion = Completion(body.model)
    pieces = await _ask(body, owners)
    try:
        # A failure before the first piece still has a status of its own.
        first = await anext(pieces)
        completion.begin(first[1])
    except BaseException:
        await pieces.aclose()
        raise
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        frames = _frames(body.n or 1, completion, _resumed(first, pieces), include_usage, metrics)
        return EventStream(frames, headers=completion.headers())
    whole = await _whole(body.n or 1, completion, _resumed(first, pieces))
    metrics.generated(completion.prompt_tokens, completion.completion_tokens)
    return JSONResponse(whole, headers=completion.headers())


async def _ask(body: ChatRequest, owners: Owners) -> Pieces:
    model = await models.get(owners, body.model)
    requests = body.to_protos(caller_parent(), model.name)
    return _checked(merged([owners.generation.StreamChat(request) for request in requests]))


async def _checked(pieces: Any) -> Pieces:
    """The pieces, made sure that there are some."""
    empty = True
    async with aclosing(pieces):
        async for piece in pieces:
            empty = False
            yield piece
    if empty:
        raise _unfinished()


async def _resumed(first: tuple[int, StreamChatResponse], rest: Pieces) -> Pieces:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _whole(count: int, completion: Completion, pieces: Pieces) -> dict[str, Any]:
    texts = [""] * count
    reasons: list[str | None] = [None] * count
    async with aclosing(pieces):
        async for index, piece in pieces:
            texts[index] += piece.text
            if piece.HasField("finish"):
                reasons[index] = reason_of(piece.finish)
                completion.count(piece.finish)
    if None in reasons:
        raise _unfinished()
    return completion.whole(texts, reasons)


async def _frames(
    count: int,
    completion: Completion,
    pieces: Pieces,
    include_usage: bool,
    metrics: RestMetrics,
) -> AsyncIterator[str]:
    """The events of a stream; a failure on the way is an event, for the status is long sent."""
    try:
        async with aclosing(_chunks(count, completion, pieces)) as chunks:
            async for chunk in chunks:
                yield _frame(chunk | {"usage": None} if include_usage else chunk)
        if include_usage:
            yield _frame(completion.usage_chunk())
        metrics.generated(completion.prompt_tokens, completion.completion_tokens)
        yield "data: [DONE]\n\n"
    except PlatformError as error:
        logger.warning("answer broken off", extra={"reason": error.reason})
        yield _frame(body_of(error))
    except Exception:
        logger.exception("answer broken off")
        yield _frame(body_of(Internal("internal error", reason="INTERNAL")))


async def _chunks(
    count: int, completion: Completion, pieces: Pieces
) -> AsyncGenerator[dict[str, Any], None]:
    unfinished = set(range(count))
    async with aclosing(pieces):
        for index in range(count):
            yield completion.chunk(index, {"role": "assistant", "content": ""})
        async for index, piece in pieces:
            if piece.text:
                yield completion.chunk(index, {"content": piece.text})
            if piece.HasField("finish"):
                completion.count(piece.finish)
                unfinished.discard(index)
                yield completion.chunk(index, {}, reason_of(piece.finish))
    if unfinished:
        raise _unfinished()


class EventStream(StreamingResponse):
    """Server-sent events; a reader who hangs up ends their making at once."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events and close their source, however it ends."""
        self.headers["cache-control"] = "no-cache"
        try:
            await super().__call__(scope, receive, send)
        finally:
            close = getattr(self.body_iterator, "aclose", None)
            if close is not None:
                await close()


def _frame(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _unfinished() -> Internal:
    return Internal("the answer ended too early", reason="ANSWER_UNFINISHED")
