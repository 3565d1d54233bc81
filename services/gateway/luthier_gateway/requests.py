"""What the routes have in common: how bodies are read, how the owners are reached."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict

from luthier_gateway.metrics import RestMetrics
from luthier_gateway.owners import Owners


class Body(BaseModel):
    """A JSON body, or a part of one; fields that nobody knows are ignored, as OpenAI does."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""Text of a body. JSON can hold half a character (a lone surrogate), the owners cannot; where a
length is demanded, the check comes with it."""


async def _owners(request: Request) -> Owners:
    owners: Owners = request.app.state.owners
    return owners


async def _metrics(request: Request) -> RestMetrics:
    metrics: RestMetrics = request.app.state.metrics
    return metrics


OwnersDependency = Annotated[Owners, Depends(_owners)]
MetricsDependency = Annotated[RestMetrics, Depends(_metrics)]

After = Annotated[str | None, Query(max_length=200)]
"""The id that a page comes after."""

Limit = Annotated[int, Query(ge=1, le=1000)]
"""Most items of a page."""

Order = Annotated[Literal["asc", "desc"], Query()]
"""By age: oldest or newest first."""


def order_by(order: str) -> str:
    """Return the owners' word for an order."""
    return "create_time" if order == "asc" else "create_time desc"
