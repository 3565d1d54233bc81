"""`/v1/embeddings`: vectors of texts."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from luthier.inference.v1.generation_pb2 import Embedding
from luthier.inference.v1.generation_service_pb2 import EmbedRequest
from luthier_common.errors import InvalidArgument
from pydantic import BeforeValidator, Field

from luthier_gateway.hanging_up import CALLER_GONE, unless_hung_up
from luthier_gateway.metrics import RestMetrics, route_of
from luthier_gateway.openai import models
from luthier_gateway.openai.answers import check_answerer, digest_headers, unfinished
from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.generation_request import as_texts
from luthier_gateway.owners import Owners, caller_parent
from luthier_gateway.requests import Body, MetricsDependency, OwnersDependency

router = APIRouter()

_AT_ONCE = 128  # texts of one call: their vectors are far from the largest message
_CALL_SECONDS = 300.0
_TEXT = re.compile(r"\btexts\[(\d+)\]")

Input = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(Body):
    """Texts to turn into vectors."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    input: Annotated[list[Input], Field(min_length=1, max_length=2048), BeforeValidator(as_texts)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


@router.post("/embeddings")
async def create_embeddings(
    body: EmbeddingRequest, request: Request, owners: OwnersDependency, metrics: MetricsDependency
) -> Response:
    """Turn texts into vectors; for a caller who hangs up, no more are computed."""
    answer = await unless_hung_up(request, _answer(body, request, owners, metrics))
    return answer or Response(status_code=CALLER_GONE)


async def _answer(
    body: EmbeddingRequest, request: Request, owners: Owners, metrics: RestMetrics
) -> Response:
    model = await models.get(owners, body.model)
    found: list[Embedding] = []
    for at in range(0, len(body.input), _AT_ONCE):
        texts = body.input[at : at + _AT_ONCE]
        call = EmbedRequest(parent=caller_parent(), model=model.name, texts=texts)
        try:
            answer = await owners.generation.Embed(call, timeout=_CALL_SECONDS)
        except InvalidArgument as error:
            raise _placed(error, at) from error
        check_answerer(answer, model.digest)
        if len(answer.embeddings) != len(texts):
            raise unfinished()
        found += answer.embeddings
    _check_size(body.dimensions, found)
    tokens = sum(embedding.token_count for embedding in found)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    metrics.generated(route_of(request.scope), usage)
    data = [
        {"object": "embedding", "index": index, "embedding": _told(one.values, body)}
        for index, one in enumerate(found)
    ]
    whole = {"object": "list", "data": data, "model": body.model, "usage": usage}
    return JSONResponse(whole, headers=digest_headers(answer))


def _placed(error: InvalidArgument, at: int) -> InvalidArgument:
    """The refusal of one of a call's texts, the first of which is text `at` of the request."""

    def placed(told: str) -> str:
        return _TEXT.sub(lambda found: f"texts[{int(found[1]) + at}]", told)

    return InvalidArgument(
        placed(error.message),
        reason=error.reason,
        field=error.field and placed(error.field),
        metadata=error.metadata,
    )


def _check_size(wanted: int | None, found: Sequence[Embedding]) -> None:
    size = len(found[0].values)
    if wanted not in (None, size):
        raise invalid(
            f"dimensions must be {size}, the size of this model's vectors, or left out",
            "dimensions",
        )


def _told(values: Sequence[float], body: EmbeddingRequest) -> Any:
    """The numbers, or in base64 their bytes: float32, little-endian."""
    if body.encoding_format != "base64":
        return list(values)
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
