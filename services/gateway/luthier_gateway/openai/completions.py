"""`/v1/completions`: texts gone on with, and encoder-decoders asked."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from luthier_gateway.hanging_up import CALLER_GONE, unless_hung_up
from luthier_gateway.metrics import RestMetrics
from luthier_gateway.openai import models
from luthier_gateway.openai.answers import Pieces
from luthier_gateway.openai.completion_request import CompletionRequest
from luthier_gateway.openai.completion_views import CompletionAnswers
from luthier_gateway.openai.generation import respond
from luthier_gateway.openai.merged import merged
from luthier_gateway.owners import Owners, caller_parent
from luthier_gateway.requests import MetricsDependency, OwnersDependency

router = APIRouter()


@router.post("/completions")
async def create_completion(
    body: CompletionRequest, request: Request, owners: OwnersDependency, metrics: MetricsDependency
) -> Response:
    """Go on with texts; for a caller who hangs up, no more is written."""
    body.check()
    answer = await unless_hung_up(request, _answer(body, request, owners, metrics))
    return answer or Response(status_code=CALLER_GONE)


async def _answer(
    body: CompletionRequest, request: Request, owners: Owners, metrics: RestMetrics
) -> Response:
    model = await models.get(owners, body.model)
    requests = body.to_protos(caller_parent(), model.name)
    calls = [owners.generation.StreamComplete(one) for one in requests]
    answers = CompletionAnswers(body, model.digest)
    return await respond(request, body, answers, _pieces(calls, answers.each), metrics)


async def _pieces(calls: list[Any], each: int) -> Pieces:
    """The pieces of all prompts; each of them has `each` choices."""
    async with aclosing(merged(calls)) as pieces:
        async for prompt, piece in pieces:
            yield prompt * each + piece.answer_index, piece
