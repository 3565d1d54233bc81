"""The API of text generation: finds the model, and passes on what its engine writes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from luthier.inference.v1 import generation_service_pb2 as api
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsRequest,
    GenerateRequest,
    GenerateResponse,
)
from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceServicer
from luthier_common.errors import FailedPrecondition, NotFound, PlatformError, not_found
from luthier_common.identity import LIBRARY
from luthier_common.names import parse, project_of
from luthier_common.records.collection import Collection

from luthier_inference.adapters import ADAPTER, is_live
from luthier_inference.conversation import (
    check_messages,
    check_sampling,
    check_text,
    check_texts,
    check_tools,
)
from luthier_inference.engine_pool import EnginePool
from luthier_inference.metrics import Metrics
from luthier_inference.origins import BASE_MODEL
from luthier_inference.prober import Prober
from luthier_inference.served import check_chats, check_result, check_served, probe_result

Whole = TypeVar("Whole", api.ChatResponse, api.CompleteResponse)
Part = TypeVar("Part", api.StreamChatResponse, api.StreamCompleteResponse)


@dataclass(frozen=True)
class Model:
    """Who is to answer."""

    base: BaseModel
    adapter: Adapter | None


class Router(GenerationServiceServicer):
    """Answers conversations and texts with a base model or an adapter."""

    def __init__(
        self,
        base_models: Collection[BaseModel],
        adapters: Collection[Adapter],
        engines: EnginePool,
        prober: Prober,
        metrics: Metrics,
    ) -> None:
        self._base_models = base_models
        self._adapters = adapters
        self._engines = engines
        self._prober = prober
        self._metrics = metrics

    async def Chat(self, request: api.ChatRequest, context: Any) -> api.ChatResponse:
        """Answer a conversation."""
        model, pieces = await self._chat(request)
        return await _whole(api.ChatResponse, model, pieces, request.sampling.answer_count)

    async def StreamChat(
        self, request: api.StreamChatRequest, context: Any
    ) -> AsyncGenerator[api.StreamChatResponse, None]:
        """Stream the answers to a conversation; the last message of each carries `finish`."""
        model, pieces = await self._chat(request)
        async with aclosing(_parts(api.StreamChatResponse, model, pieces)) as parts:
            async for part in parts:
                yield part

    async def Complete(self, request: api.CompleteRequest, context: Any) -> api.CompleteResponse:
        """Go on with a text."""
        model, pieces = await self._complete(request)
        return await _whole(api.CompleteResponse, model, pieces, request.sampling.answer_count)

    async def StreamComplete(
        self, request: api.StreamCompleteRequest, context: Any
    ) -> AsyncGenerator[api.StreamCompleteResponse, None]:
        """Stream how a text goes on; the last message of each answer carries `finish`."""
        model, pieces = await self._complete(request)
        async with aclosing(_parts(api.StreamCompleteResponse, model, pieces)) as parts:
            async for part in parts:
                yield part

    async def Embed(self, request: api.EmbedRequest, context: Any) -> api.EmbedResponse:
        """Return the vectors of texts."""
        project = project_of(request.parent, field="parent")
        check_texts(request.texts)
        model = await self._resolve(project, request.model)
        wanted = EmbedTextsRequest(
            parent=request.parent,
            base_model_digest=model.base.digest,
            adapter=model.adapter,
            texts=request.texts,
        )
        async with self._counted(model, "embed"):
            response = await self._engines.embed(model.base, wanted)
        return api.EmbedResponse(
            embeddings=response.embeddings,
            base_model_digest=model.base.digest,
            adapter_digest=response.adapter_digest,
        )

    async def _chat(
        self, request: api.ChatRequest | api.StreamChatRequest
    ) -> tuple[Model, AsyncGenerator[GenerateResponse, None]]:
        project = project_of(request.parent, field="parent")
        check_messages(request.messages)
        check_sampling(request.sampling)
        check_tools(request.tools, request.tool_choice)
        model = await self._resolve(project, request.model)
        check_chats(model.base)
        wanted = GenerateRequest(
            parent=request.parent,
            base_model_digest=model.base.digest,
            adapter=model.adapter,
            messages=request.messages,
            sampling=request.sampling,
            tools=request.tools,
            tool_choice=request.tool_choice if request.HasField("tool_choice") else None,
        )
        return model, self._measured(model, wanted, "chat")

    async def _complete(
        self, request: api.CompleteRequest | api.StreamCompleteRequest
    ) -> tuple[Model, AsyncGenerator[GenerateResponse, None]]:
        project = project_of(request.parent, field="parent")
        check_text(request.text)
        check_sampling(request.sampling)
        model = await self._resolve(project, request.model)
        wanted = GenerateRequest(
            parent=request.parent,
            base_model_digest=model.base.digest,
            adapter=model.adapter,
            text=request.text,
            sampling=request.sampling,
        )
        return model, self._measured(model, wanted, "complete")

    async def _resolve(self, project: str, name: str) -> Model:
        """Return a model that is served; a foreign name gets the answer of an absent one."""
        adapters = "/adapters/" in name
        owner = parse(name, ADAPTER if adapters else BASE_MODEL, field="model")["project"]
        if owner != project and (adapters or owner != LIBRARY):
            raise not_found(name)
        if not adapters:
            model = Model(await self._base_models.get(name), None)
        else:
            model = await self._with_base(await self._adapters.get(name))
        check_served(model.base, model.adapter)
        if model.adapter is not None:
            precision = self._engines.precision(model.base)
            check_result(model.adapter, probe_result(model.adapter, precision))
        return model

    async def _with_base(self, adapter: Adapter) -> Model:
        if not is_live(adapter):
            raise not_found(adapter.name)
        try:
            base = await self._base_models.get(adapter.base_model)
        except NotFound:
            base = None
        if base is None or base.digest != adapter.base_model_digest:
            raise FailedPrecondition(
                f"the base model of {adapter.name} is not there any more",
                reason="BASE_MODEL_MISMATCH",
            )
        return Model(base, adapter)

    async def _measured(
        self, model: Model, request: GenerateRequest, method: str
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Yield what the engine writes, and count it."""
        base, came = model.base, time.monotonic()
        before: dict[int, float] = {}
        async with (
            self._counted(model, method),
            aclosing(self._engines.generate(base, request)) as pieces,
        ):
            async for piece in pieces:
                now, index = time.monotonic(), piece.answer_index
                seconds = now - before.get(index, came)
                self._metrics.written(base.name, seconds, first=index not in before)
                before[index] = now
                if piece.HasField("finish"):
                    self._metrics.answered(base.name, request.adapter.name, piece.finish)
                yield piece

    @contextlib.asynccontextmanager
    async def _counted(self, model: Model, method: str) -> AsyncIterator[None]:
        code = "CANCELLED"
        try:
            yield
            code = "OK"
        except PlatformError as error:
            code = error.code
            raise
        except Exception:
            code = "INTERNAL"
            raise
        finally:
            self._metrics.requested(model.base.name, method, code)
            if model.adapter is not None:
                # Now, since by now an engine runs and knows what the adapter's probe shows.
                self._prober.ask(model.base, model.adapter)


async def _whole(
    kind: type[Whole], model: Model, pieces: AsyncGenerator[GenerateResponse, None], count: int
) -> Whole:
    """Return whole answers."""
    answers = [api.Answer() for _ in range(count or 1)]
    adapter_digest = ""
    async with aclosing(pieces):
        async for piece in pieces:
            answer = answers[piece.answer_index]
            answer.text += piece.text
            answer.tokens.extend(piece.tokens)
            adapter_digest = piece.adapter_digest
            if piece.HasField("finish"):
                answer.finish.CopyFrom(piece.finish)
    return kind(answers=answers, base_model_digest=model.base.digest, adapter_digest=adapter_digest)


async def _parts(
    kind: type[Part], model: Model, pieces: AsyncGenerator[GenerateResponse, None]
) -> AsyncGenerator[Part, None]:
    """Yield answers as they are written."""
    async with aclosing(pieces):
        async for piece in pieces:
            yield kind(
                text=piece.text,
                finish=piece.finish if piece.HasField("finish") else None,
                base_model_digest=model.base.digest,
                adapter_digest=piece.adapter_digest,
                answer_index=piece.answer_index,
                tokens=piece.tokens,
            )
