"""The gRPC side of an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from luthier.inference.v1 import engine_service_pb2 as api
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2_grpc import EngineServiceServicer
from luthier.inference.v1.generation_pb2 import Embedding, Token
from luthier_common.errors import FailedPrecondition
from luthier_common.names import project_of

from luthier_inference.engine.adapter_files import AdapterFiles
from luthier_inference.engine.asking import Asker
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.prover import Prover
from luthier_inference.engine.row import Answers
from luthier_inference.engine.sampling import Chosen
from luthier_inference.engine.scheduler import Scheduler

_WATCH_SECONDS = 1.0


class EngineService(EngineServiceServicer):
    """Answers with the base model that is loaded."""

    def __init__(
        self,
        base: BaseModel,
        asker: Asker,
        adapters: AdapterFiles,
        prover: Prover,
        scheduler: Scheduler,
    ) -> None:
        self._base = base
        self._asker = asker
        self._adapters = adapters
        self._prover = prover
        self._scheduler = scheduler

    async def Generate(
        self, request: api.GenerateRequest, context: Any
    ) -> AsyncGenerator[api.GenerateResponse, None]:
        """Stream one answer, or several."""
        self._check_base(request.base_model_digest)
        # In a thread: a prompt of a book's length must not hold up the others' answers.
        asked = await asyncio.to_thread(self._asker.prepare, request)
        weights = await self._weights(request, request.parent)
        rows = asked.rows(project_of(request.parent, field="parent"), weights)
        for row in rows:
            self._scheduler.submit(row)
        digest = weights.digest if weights else ""
        async with aclosing(Answers(rows).read()) as pieces:
            async for number, piece in pieces:
                text, finish = asked.settled(number, piece)
                yield api.GenerateResponse(
                    text=text,
                    finish=finish,
                    adapter_digest=digest,
                    answer_index=number,
                    tokens=[self._token(one) for one in piece.chosen],
                )

    async def EmbedTexts(
        self, request: api.EmbedTextsRequest, context: Any
    ) -> api.EmbedTextsResponse:
        """Return vectors of texts."""
        self._check_base(request.base_model_digest)
        rows = await asyncio.to_thread(self._asker.read, request.texts)
        weights = await self._weights(request, request.parent)
        vectors = await self._scheduler.embed(rows, weights)
        return api.EmbedTextsResponse(
            embeddings=[
                Embedding(values=vector, token_count=len(row))
                for vector, row in zip(vectors, rows, strict=True)
            ],
            adapter_digest=weights.digest if weights else "",
        )

    async def HoldAdapter(
        self, request: api.HoldAdapterRequest, context: Any
    ) -> api.HoldAdapterResponse:
        """Load, pin, unpin or unload an adapter."""
        hold, digest = request.hold, request.adapter.digest
        if hold == api.HoldAdapterRequest.UNLOADED:
            self._adapters.unpin(digest)
            await self._scheduler.unload(digest)
            self._adapters.drop(digest)
            return api.HoldAdapterResponse()
        project = project_of(request.parent, field="parent")
        weights = await self._adapters.get(project, request.adapter)
        result = await self._prover.prove(project, request.adapter, weights)
        if hold == api.HoldAdapterRequest.PINNED:
            self._adapters.pin(digest)
        elif hold == api.HoldAdapterRequest.UNPINNED:
            self._adapters.unpin(digest)
        return api.HoldAdapterResponse(adapter_digest=weights.digest, probe_result=result)

    async def WatchEngine(
        self, request: api.WatchEngineRequest, context: Any
    ) -> AsyncGenerator[api.WatchEngineResponse, None]:
        """Stream how the engine is doing."""
        while True:
            yield api.WatchEngineResponse(
                running_count=self._scheduler.running,
                waiting_count=self._scheduler.waiting,
                adapter_digests=sorted(self._adapters.in_memory),
            )
            await self._adapters.changed(_WATCH_SECONDS)

    def _check_base(self, digest: str) -> None:
        if digest != self._base.digest:
            raise FailedPrecondition(
                "this engine holds another base model", reason="BASE_MODEL_MISMATCH"
            )

    async def _weights(self, request: Any, parent: str) -> LoraWeights | None:
        if not request.HasField("adapter"):
            return None
        project = project_of(parent, field="parent")
        weights = await self._adapters.get(project, request.adapter)
        await self._prover.check(project, request.adapter, weights)
        return weights

    def _token(self, chosen: Chosen) -> Token:
        spelled = self._asker.vocabulary.spelled
        top: Sequence[tuple[int, float]] = chosen.top
        return Token(
            id=chosen.token,
            text=spelled(chosen.token),
            logprob=chosen.logprob,
            top=[Token(id=token, text=spelled(token), logprob=logprob) for token, logprob in top],
        )
