"""The API of text generation: finds the model, and passes on what its engine writes."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import GenerateRequest, GenerateResponse
from luthier.inference.v1.engine_service_pb2_grpc import EngineServiceStub
from luthier.inference.v1.generation_service_pb2 import StreamChatRequest, StreamChatResponse
from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceServicer
from luthier_common.errors import FailedPrecondition, NotFound, Unavailable, not_found
from luthier_common.identity import LIBRARY, service_identity
from luthier_common.names import parse, project_of
from luthier_common.records.collection import Collection

from luthier_inference.adapters import ADAPTER, is_live
from luthier_inference.conversation import check_messages, check_sampling
from luthier_inference.engine_pool import EnginePool
from luthier_inference.metrics import Metrics
from luthier_inference.origins import BASE_MODEL
from luthier_inference.served import check_served

_ATTEMPTS = 3  # an engine that dies twice before its first word will do so again

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """Who is to answer."""

    base: BaseModel
    adapter: Adapter | None


class Router(GenerationServiceServicer):
    """Answers conversations with a base model or an adapter."""

    def __init__(
        self,
        base_models: Collection[BaseModel],
        adapters: Collection[Adapter],
        engines: EnginePool,
        metrics: Metrics,
    ) -> None:
        self._base_models = base_models
        self._adapters = adapters
        self._engines = engines
        self._metrics = metrics

    async def StreamChat(
        self, request: StreamChatRequest, context: Any
    ) -> AsyncGenerator[StreamChatResponse, None]:
        """Stream one answer; the last message carries `finish`."""
        project = project_of(request.parent, field="parent")
        check_messages(request.messages)
        check_sampling(request.sampling)
        model = await self._resolve(project, request.model)
        check_served(model.base, model.adapter)
        wanted = GenerateRequest(
            parent=request.parent,
            base_model_digest=model.base.digest,
            adapter=model.adapter,
            messages=request.messages,
            sampling=request.sampling,
        )
        async with aclosing(self._generate(project, model.base, wanted)) as pieces:
            async for piece in pieces:
                response = StreamChatResponse(
                    text=piece.text,
                    base_model_digest=model.base.digest,
                    adapter_digest=piece.adapter_digest,
                )
                if piece.HasField("finish"):
                    response.finish.CopyFrom(piece.finish)
                    self._metrics.answered(piece.finish)
                yield response

    async def _resolve(self, project: str, name: str) -> Model:
        """Return the model; a foreign name gets the answer of an absent one."""
        adapters = "/adapters/" in name
        owner = parse(name, ADAPTER if adapters else BASE_MODEL, field="model")["project"]
        if owner != project and (adapters or owner != LIBRARY):
            raise not_found(name)
        if not adapters:
            return Model(await self._base_models.get(name), None)
        adapter = await self._adapters.get(name)
        if not is_live(adapter):
            raise not_found(name)
        try:
            base = await self._base_models.get(adapter.base_model)
        except NotFound:
            base = None
        if base is None or base.digest != adapter.base_model_digest:
            raise FailedPrecondition(
                f"the base model of {name} is not there any more", reason="BASE_MODEL_MISMATCH"
            )
        return Model(base, adapter)

    async def _generate(
        self, project: str, base: BaseModel, request: GenerateRequest
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Yield what the engine writes; starts again while nothing has been passed on."""
        identity = service_identity(project, "inference")
        for attempt in range(1, _ATTEMPTS + 1):
            begun = False
            try:
                async with self._engines.lease(base) as engine:
                    stub = EngineServiceStub(engine.channel.with_identity(identity))
                    pieces = stub.Generate(request)
                    try:
                        async for piece in pieces:
                            begun = True
                            yield piece
                            if piece.HasField("finish"):
                                return
                    finally:
                        pieces.cancel()
                raise Unavailable("the answer broke off", reason="ENGINE_LOST")
            except Unavailable as error:
                if error.reason == "ENGINE_NOT_STARTED":
                    raise
                logger.warning(
                    "the engine was lost",
                    extra={"base_model": base.name, "attempt": attempt, "detail": error.message},
                )
                if begun or attempt == _ATTEMPTS:
                    raise Unavailable(
                        "the model stopped while answering; ask again", reason="ENGINE_LOST"
                    ) from error
