"""The gRPC side of an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import GenerateRequest, GenerateResponse
from luthier.inference.v1.engine_service_pb2_grpc import EngineServiceServicer
from luthier_common.errors import FailedPrecondition
from luthier_common.names import project_of

from luthier_inference.conversation import check_messages, check_sampling
from luthier_inference.engine.adapter_files import AdapterFiles
from luthier_inference.engine.prompts import Tokenizer
from luthier_inference.engine.row import Row, Sampling
from luthier_inference.engine.scheduler import Scheduler
from luthier_inference.engine.text import TextStream


class EngineService(EngineServiceServicer):
    """Answers with the base model that is loaded."""

    def __init__(
        self, base: BaseModel, tokenizer: Tokenizer, adapters: AdapterFiles, scheduler: Scheduler
    ) -> None:
        self._base = base
        self._tokenizer = tokenizer
        self._adapters = adapters
        self._scheduler = scheduler

    async def Generate(
        self, request: GenerateRequest, context: Any
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Stream one answer."""
        if request.base_model_digest != self._base.digest:
            raise FailedPrecondition(
                "this engine holds another base model", reason="BASE_MODEL_MISMATCH"
            )
        row = await self._row(request)
        digest = row.adapter.digest if row.adapter else ""
        self._scheduler.submit(row)
        async with aclosing(row.read()) as pieces:
            async for piece in pieces:
                yield GenerateResponse(text=piece.text, finish=piece.finish, adapter_digest=digest)

    async def _row(self, request: GenerateRequest) -> Row:
        check_messages(request.messages)
        check_sampling(request.sampling)
        sampling = request.sampling
        # In a thread: a prompt of a book's length must not hold up the others' answers.
        prompt = await asyncio.to_thread(self._tokenizer.encode, request.messages)
        adapter = None
        if request.HasField("adapter"):
            project = project_of(request.parent, field="parent")
            adapter = await self._adapters.get(project, request.adapter)
        return Row(
            prompt=prompt,
            adapter=adapter,
            sampling=Sampling.of(sampling),
            text=TextStream(self._tokenizer.decode, sampling.stop),
            limit=self._tokenizer.room(prompt, sampling.max_tokens),
        )
