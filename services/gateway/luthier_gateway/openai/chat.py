"""`/v1/chat/completions`: answers of base and tuned models to conversations."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from luthier_gateway.hanging_up import CALLER_GONE, unless_hung_up
from luthier_gateway.metrics import RestMetrics
from luthier_gateway.openai import models
from luthier_gateway.openai.answers import Pieces
from luthier_gateway.openai.chat_request import ChatRequest
from luthier_gateway.openai.chat_views import ChatAnswers
from luthier_gateway.openai.generation import respond
from luthier_gateway.owners import Owners, caller_parent
from luthier_gateway.requests import MetricsDependency, OwnersDependency

router = APIRouter()


@router.post("/chat/completions")
async def create_chat_completion(
    body: ChatRequest, request: Request, owners: OwnersDependency, metrics: MetricsDependency
) -> Response:
    """Answer a conversation; for a caller who hangs up, no more is written."""
    body.check()
    answer = await unless_hung_up(request, _answer(body, request, owners, metrics))
    return answer or Response(status_code=CALLER_GONE)


async def _answer(
    body: ChatRequest, request: Request, owners: Owners, metrics: RestMetrics
) -> Response:
    model = await models.get(owners, body.model)
    call = owners.generation.StreamChat(body.to_proto(caller_parent(), model.name))
    return await respond(request, body, ChatAnswers(body, model.digest), _pieces(call), metrics)


async def _pieces(call: Any) -> Pieces:
    async with aclosing(call):
        async for piece in call:
            yield piece.answer_index, piece
