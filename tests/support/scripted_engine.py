"""A stand-in of our own engine process: EngineService by a script, and a process beside it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from luthier.inference.v1 import engine_service_pb2
from luthier.inference.v1.adapter_pb2 import ProbeResult
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsResponse,
    GenerateRequest,
    GenerateResponse,
    HoldAdapterRequest,
    HoldAdapterResponse,
    WatchEngineResponse,
)
from luthier.inference.v1.engine_service_pb2_grpc import (
    EngineServiceServicer,
    add_EngineServiceServicer_to_server,
)
from luthier.inference.v1.generation_pb2 import Embedding, Finish, Token
from luthier_common.children import spawn
from luthier_common.errors import (
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    not_found,
)
from luthier_inference.engines.process import EngineProcess
from luthier_inference.served import check_result

from tests.support.grpc_server import serving
from tests.support.scripted_model import CONTEXT, END_TEXT, Script, byte_tokenizer

_REASONS = {"stop": Finish.STOP, "end": Finish.STOP, "length": Finish.LENGTH}


class ScriptedEngine(EngineServiceServicer):
    """Serves one base model and its adapters."""

    def __init__(self, base: BaseModel, script: Script) -> None:
        self.base = base
        self.script = script
        self.held: set[str] = set()
        self.pinned: set[str] = set()
        self.waiting = 0
        self.probe: ProbeResult | None = None
        """What every adapter's probe shows."""
        self.examined: list[str] = []
        """Adapters it was asked to hold, by name."""
        self._tokenizer = byte_tokenizer()

    async def Generate(
        self, request: GenerateRequest, context: Any
    ) -> AsyncIterator[GenerateResponse]:
        self._check(request)
        if self.script.full:
            self.script.full = False
            raise ResourceExhausted(
                "full", reason="ENGINE_BUSY", metadata={"retry_after_seconds": "7"}
            )
        prompt = request.text or request.messages[-1].content
        tokens = len(self._tokenizer.encode(prompt).ids)
        if tokens >= CONTEXT:
            field = "text" if request.text else "messages"
            raise InvalidArgument("too long", reason="CONTEXT_LENGTH_EXCEEDED", field=field)
        sampling = request.sampling
        async with self.script.call():
            for index in range(sampling.answer_count or 1):
                self.script.seeds.append(sampling.seed + index)
                async for piece in self._answer(request, prompt, tokens, index):
                    yield piece

    async def _answer(
        self, request: GenerateRequest, prompt: str, prompt_tokens: int, index: int
    ) -> AsyncIterator[GenerateResponse]:
        sampling, count, held = request.sampling, 0, ""
        limit = min(sampling.max_tokens or CONTEXT, CONTEXT - prompt_tokens)
        async for token, reason in self.script.write(
            prompt, request.adapter.digest, limit=limit, stops=list(sampling.stop)
        ):
            count += 1
            if self.script.broken and count == 3:
                self.script.broken = False
                raise Unavailable("broken", reason="ENGINE_LOST")
            held += token.decode()
            kept = any(stop.startswith(held) for stop in sampling.stop if held) and not reason
            text = "" if kept or reason == "stop" else held
            held = held if kept else ""
            response = GenerateResponse(
                text=text, adapter_digest=request.adapter.digest, answer_index=index
            )
            if sampling.logprobs:
                (number,) = self._tokenizer.encode(token.decode() or END_TEXT).ids
                top = [Token(id=number, text=token or END_TEXT.encode(), logprob=-0.5)]
                response.tokens.add(
                    id=number,
                    text=token or END_TEXT.encode(),
                    logprob=-0.5,
                    top=top * sampling.top_logprobs,
                )
            if reason:
                response.finish.CopyFrom(
                    Finish(
                        reason=_REASONS[reason],
                        prompt_tokens=prompt_tokens,
                        completion_tokens=count,
                    )
                )
            yield response

    def _check(self, request: GenerateRequest) -> None:
        if request.base_model_digest != self.base.digest:
            raise FailedPrecondition("another base", reason="BASE_MODEL_MISMATCH")
        if request.HasField("adapter"):
            self._check_adapter(request.adapter, request.parent)
            check_result(request.adapter, self.probe)

    def _check_adapter(self, adapter: Any, parent: str) -> None:
        if not adapter.name.startswith(f"{parent}/"):
            raise not_found(adapter.name)
        if adapter.base_model_digest != self.base.digest:
            raise FailedPrecondition("another base", reason="BASE_MODEL_MISMATCH")
        self.held.add(adapter.digest)

    async def EmbedTexts(self, request: Any, context: Any) -> EmbedTextsResponse:
        vectors = [Embedding(values=[1.0, 0.0], token_count=len(each)) for each in request.texts]
        return EmbedTextsResponse(embeddings=vectors, adapter_digest=request.adapter.digest)

    async def HoldAdapter(self, request: HoldAdapterRequest, context: Any) -> HoldAdapterResponse:
        digest = request.adapter.digest
        if request.hold == HoldAdapterRequest.UNLOADED:
            self.held.discard(digest)
            return HoldAdapterResponse()
        self._check_adapter(request.adapter, request.parent)
        self.examined.append(request.adapter.name)
        return HoldAdapterResponse(adapter_digest=digest, probe_result=self.probe)

    async def WatchEngine(self, request: Any, context: Any) -> AsyncIterator[WatchEngineResponse]:
        while True:
            yield WatchEngineResponse(
                running_count=self.script.running,
                waiting_count=self.waiting,
                adapter_digests=sorted(self.held),
            )
            await asyncio.sleep(0.05)


class Crash:
    """Ends the process and whatever it was doing."""

    def __init__(self, server: Any, child: Any) -> None:
        self._server = server
        self._child = child

    async def __call__(self) -> None:
        self._child.kill()
        await self._server.rpc._server.stop(0)


@asynccontextmanager
async def scripted_engine(servicer: ScriptedEngine) -> AsyncIterator[tuple[EngineProcess, Crash]]:
    """Give an engine that answers by a script, and what ends it."""
    descriptor = engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"]
    services = (servicer, add_EngineServiceServicer_to_server, descriptor)
    async with serving(services) as server:
        child = await spawn(sys.executable, "-c", "import time; time.sleep(3600)")
        engine = EngineProcess(servicer.base, child, server.channel())
        try:
            yield engine, Crash(server, child)
        finally:
            await engine.stop()
