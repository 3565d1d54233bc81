"""Answers on their way to the caller: whole, or as server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from luthier_common.errors import Internal, PlatformError
from starlette.types import Receive, Scope, Send

from luthier_gateway.metrics import RestMetrics, route_of
from luthier_gateway.openai.answers import Answers, Pieces, digest_headers, unfinished
from luthier_gateway.openai.errors import body_of
from luthier_gateway.openai.generation_request import GenerationRequest

logger = logging.getLogger(__name__)


async def respond(
    request: Request,
    asked: GenerationRequest,
    answers: Answers,
    pieces: Pieces,
    metrics: RestMetrics,
) -> Response:
    """Return the answer; its writing ends with `pieces`, which are closed however this ends."""
    route = route_of(request.scope)
    try:
        # A failure before the first piece still has a status of its own.
        first = await anext(pieces, None)
        if first is None:
            raise unfinished()
        answers.hear(*first)
        headers = digest_headers(first[1])
    except BaseException:
        await pieces.aclose()
        raise
    resumed = _resumed(first, pieces)
    if asked.stream:
        frames = _frames(answers, resumed, asked.wants_usage(), metrics, route)
        return EventStream(frames, headers=headers)
    whole = await _whole(answers, resumed)
    metrics.generated(route, answers.usage())
    return JSONResponse(whole, headers=headers)


async def _resumed(first: tuple[int, Any], rest: Pieces) -> Pieces:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _whole(answers: Answers, pieces: Pieces) -> dict[str, Any]:
    heard: list[list[Any]] = [[] for _ in range(answers.count)]
    async with aclosing(pieces):
        async for index, piece in pieces:
            answers.hear(index, piece)
            heard[index].append(piece)
    answers.check_finished()
    return answers.whole(heard)


async def _frames(
    answers: Answers, pieces: Pieces, include_usage: bool, metrics: RestMetrics, route: str
) -> AsyncIterator[str]:
    """The events of a stream; a failure on the way is an event, for the status is long sent."""
    usage_to_come = {"usage": None} if include_usage else {}
    try:
        async with aclosing(pieces):
            for chunk in answers.opening():
                yield _frame(chunk | usage_to_come)
            async for index, piece in pieces:
                answers.hear(index, piece)
                for chunk in answers.chunks(index, piece):
                    yield _frame(chunk | usage_to_come)
        answers.check_finished()
        if include_usage:
            yield _frame(answers.usage_chunk())
        metrics.generated(route, answers.usage())
        yield "data: [DONE]\n\n"
    except PlatformError as error:
        logger.warning("answer broken off", extra={"reason": error.reason})
        yield _frame(body_of(error))
    except Exception:
        logger.exception("answer broken off")
        yield _frame(body_of(Internal("internal error", reason="INTERNAL")))


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
