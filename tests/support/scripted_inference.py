"""An inference service whose one base model, and adapters on it, answer by a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from luthier.inference.v1 import (
    adapter_service_pb2,
    base_model_service_pb2,
    generation_service_pb2,
)
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import GetAdapterRequest
from luthier.inference.v1.adapter_service_pb2_grpc import (
    AdapterServiceServicer,
    add_AdapterServiceServicer_to_server,
)
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier.inference.v1.base_model_service_pb2 import GetBaseModelRequest
from luthier.inference.v1.base_model_service_pb2_grpc import (
    BaseModelServiceServicer,
    add_BaseModelServiceServicer_to_server,
)
from luthier.inference.v1.generation_pb2 import Finish
from luthier.inference.v1.generation_service_pb2 import StreamChatRequest, StreamChatResponse
from luthier.inference.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from luthier_common.errors import not_found
from luthier_common.objects.blobs import Blobs
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.support.grpc_server import Service

BASE_MODEL = "projects/library/baseModels/scripted"
DIGEST = "d" * 64
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + ' end ' }}"
    "{% endfor %}"
)
"""Counted by words: two more than each message has."""


async def import_base_model(blobs: Blobs) -> BaseModel:
    """Store tokenizer and template of a model whose tokens are words; return its record."""
    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    contents = {
        "tokenizer.json": words.to_str().encode(),
        "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode(),
    }
    model = BaseModel(name=BASE_MODEL, digest=DIGEST)
    for path, data in contents.items():
        blob = await blobs.put_bytes("library", data)
        model.files.append(ModelFile(path=path, sha256=blob.sha256, size_bytes=blob.size))
    return model


class ScriptedInference(
    AdapterServiceServicer, BaseModelServiceServicer, GenerationServiceServicer
):
    """Serves one base model; `answer` maps a prompt to a text, or raises what a call shall raise.

    `adapters`, digests by name, answer as the base model does.

    While `open` is clear, calls to the model hang. `cut` answers that many calls with half an
    answer.
    """

    def __init__(self, base_model: BaseModel, answer: Callable[[str], str]) -> None:
        self.base_model = base_model
        self.answer = answer
        self.adapters: dict[str, str] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.cut = 0
        self._pause_at: int | None = None
        self._paused = asyncio.Event()
        self.asked: list[StreamChatRequest] = []

    def pause_after(self, calls: int) -> asyncio.Event:
        """Let calls hang once there were so many in all; the event is set when they do."""
        self.open.set()
        self._pause_at, self._paused = calls, asyncio.Event()
        return self._paused

    def resume(self) -> None:
        """Answer every call from now on."""
        self._pause_at = None
        self.open.set()

    def services(self) -> list[Service]:
        """Return what a test server is to serve."""
        base_models = base_model_service_pb2.DESCRIPTOR.services_by_name["BaseModelService"]
        adapters = adapter_service_pb2.DESCRIPTOR.services_by_name["AdapterService"]
        generation = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
        return [
            (self, add_BaseModelServiceServicer_to_server, base_models),
            (self, add_AdapterServiceServicer_to_server, adapters),
            (self, add_GenerationServiceServicer_to_server, generation),
        ]

    async def GetBaseModel(self, request: GetBaseModelRequest, context: Any) -> BaseModel:
        if request.name != self.base_model.name:
            raise not_found(request.name)
        return self.base_model

    async def GetAdapter(self, request: GetAdapterRequest, context: Any) -> Adapter:
        if request.name not in self.adapters:
            raise not_found(request.name)
        return Adapter(name=request.name, digest=self.adapters[request.name])

    async def StreamChat(
        self, request: StreamChatRequest, context: Any
    ) -> AsyncIterator[StreamChatResponse]:
        if request.model not in (self.base_model.name, *self.adapters):
            raise not_found(request.model)
        self.asked.append(request)
        if self._pause_at is not None and len(self.asked) > self._pause_at:
            self.open.clear()
            self._paused.set()
        await self.open.wait()
        text = self.answer(request.messages[-1].content)
        half = len(text) // 2
        yield StreamChatResponse(
            text=text[:half],
            base_model_digest=self.base_model.digest,
            adapter_digest=self.adapters.get(request.model, ""),
        )
        if self.cut > 0:
            self.cut -= 1
            return
        finish = Finish(reason=Finish.FinishReason.STOP)
        yield StreamChatResponse(text=text[half:], finish=finish)

    async def _unasked(self, request: Any, context: Any) -> Any:
        raise AssertionError("nobody here asks this")

    Chat = Complete = Embed = _unasked
    StreamComplete = _unasked  # type: ignore[assignment]
    CreateAdapter = ListAdapters = DeleteAdapter = _unasked
    GetAdapterLineage = PinAdapter = UnpinAdapter = UnloadAdapter = _unasked
    CreateBaseModel = ListBaseModels = DeleteBaseModel = _unasked
