"""What the router asks of every engine, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsRequest,
    EmbedTextsResponse,
    GenerateRequest,
    GenerateResponse,
    HoldAdapterRequest,
    HoldAdapterResponse,
)

from luthier_inference.settings import Precision


class Engine(Protocol):
    """One replica of one base model, from its start to its end: it ends once.

    Calls raise Unavailable when the engine is lost, ResourceExhausted when it is full, and
    InvalidArgument or FailedPrecondition, with a named reason, for what it cannot do.
    """

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""

    @property
    def waiting(self) -> int:
        """Requests that wait inside it, as last heard."""

    @property
    def adapters(self) -> frozenset[str]:
        """Digests of the adapters that it holds ready, as last heard."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
        """Stream the answers; the last message of each carries `finish`."""

    async def embed(self, request: EmbedTextsRequest) -> EmbedTextsResponse:
        """Return a vector for each text."""

    async def hold(self, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Load, pin, unpin or unload an adapter."""

    async def ended(self) -> str:
        """Wait until it takes no calls any more, and return why."""

    async def stop(self) -> None:
        """End it, or let go of it; also after its end."""


@dataclass(frozen=True)
class Fleet:
    """How one base model is served."""

    start: Callable[[BaseModel, str], Awaitable[Engine]]
    """Starts the engine of a place, or connects to it; PlatformError says why not."""
    places: tuple[str, ...]
    """What its replicas are called: numbers, or addresses."""
    max_calls: int
    """Most calls at a time, those that wait included."""
    local: bool
    """Whether its engines are processes of ours, which take room and are started as needed."""
    precision: Precision | None = None
    """How its engines hold the base model; None for those that read no probes."""
