"""vLLM: one replica of its OpenAI server, with adapters loaded as they are asked for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsRequest,
    EmbedTextsResponse,
    GenerateRequest,
    GenerateResponse,
    HoldAdapterRequest,
    HoldAdapterResponse,
)
from luthier_common.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.objects.blobs import Blobs
from luthier_common.rpc.status import RETRY_AFTER

from luthier_inference.engines.adapter_folders import AdapterFolders, check_own
from luthier_inference.engines.base_text import BaseText, read_base_text
from luthier_inference.engines.configuration import VllmEngines
from luthier_inference.engines.openai_wire import Answers, body_of, count_body_of
from luthier_inference.engines.server import Server
from luthier_inference.engines.vllm_adapters import VllmAdapters
from luthier_inference.engines.zero_adapter import load_zero_adapter
from luthier_inference.model_facts import is_seq2seq

_DATA, _DONE = "data: ", "[DONE]"


class _Unknown(Exception):
    """The server does not know the model that is asked."""


class VllmEngine:
    """One vLLM server."""

    def __init__(
        self, base: BaseModel, server: Server, card: dict[str, Any], adapters: VllmAdapters,
        text: BaseText, zero: Adapter | None,
    ) -> None:  # fmt: skip
        self._base = base
        self._server = server
        self._model: str = card["id"]
        self._context = min(card.get("max_model_len") or base.context_tokens, base.context_tokens)
        self._adapters = adapters
        self._text = text
        self._zero = zero

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return self._server.alive

    @property
    def waiting(self) -> int:
        """Not known: nothing is started on account of it."""
        return 0

    @property
    def adapters(self) -> frozenset[str]:
        """Digests of the adapters it has been told of, but for the zero adapter."""
        return self._adapters.held - {self._zero.digest if self._zero else ""}

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
        """Stream the answers; leaving them closes the connection, which ends them there."""
        self._check_base(request.base_model_digest)
        adapter = self._adapter_of(request)
        for attempt in (1, 2):
            try:
                async with (
                    self._model_of(adapter) as model,
                    contextlib.aclosing(self._stream(request, model)) as pieces,
                ):
                    async for piece in pieces:
                        yield piece
                return
            except _Unknown as error:
                # Raised before any piece: a server that was started again has forgotten it.
                if attempt == 2 or adapter is None:
                    raise Unavailable(str(error), reason="ENGINE_LOST") from error
                await self._adapters.forget(adapter.digest)

    def _adapter_of(self, request: GenerateRequest) -> Adapter | None:
        """Return what the server is asked for: for the base the zero adapter, where it needs it."""
        if not request.HasField("adapter"):
            return self._zero
        check_own(request.adapter, self._base, request.parent)
        return request.adapter

    @contextlib.asynccontextmanager
    async def _model_of(self, adapter: Adapter | None) -> AsyncIterator[str]:
        """Give the name that the server knows the model by."""
        if adapter is None:
            yield self._model
            return
        async with self._adapters.use(adapter) as name:
            yield name

    async def embed(self, request: EmbedTextsRequest) -> EmbedTextsResponse:
        """FailedPrecondition: a server that generates has no vectors."""
        raise FailedPrecondition(
            f"{self._base.name} is served by vLLM, which has no embeddings beside generation; "
            "ask a base model that is served by our own engine",
            reason="EMBEDDINGS_NOT_SERVED",
            field="model",
        )

    async def hold(self, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Load, pin, unpin or unload an adapter."""
        adapter = request.adapter
        check_own(adapter, self._base, request.parent)
        if request.hold == HoldAdapterRequest.UNLOADED:
            await self._adapters.unload(adapter.digest)
            return HoldAdapterResponse()
        if request.hold == HoldAdapterRequest.UNPINNED:
            self._adapters.unpin(adapter.digest)
            return HoldAdapterResponse(adapter_digest=adapter.digest)
        async with self._adapters.use(adapter):
            if request.hold == HoldAdapterRequest.PINNED:
                self._adapters.pin(adapter.digest)
        return HoldAdapterResponse(adapter_digest=adapter.digest)

    async def ended(self) -> str:
        """Wait until it does not answer any more."""
        return await self._server.ended()

    async def stop(self) -> None:
        """Let go of it."""
        await self._server.stop()

    def _check_base(self, digest: str) -> None:
        if digest != self._base.digest:
            raise FailedPrecondition(
                "this engine holds another base model", reason="BASE_MODEL_MISMATCH"
            )

    async def _stream(
        self, request: GenerateRequest, model: str
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Yield what `model` answers; _Unknown when the server does not know it."""
        path, body = body_of(request, model, await self._limit(request, model))
        answers = Answers(request, request.adapter.digest, self._text.token_bytes)
        async with (
            self._server.asking(),
            self._server.client.stream("POST", path, json=body) as response,
        ):
            if not response.is_success:
                raise _refusal(response.status_code, await response.aread(), response.headers)
            async for line in response.aiter_lines():
                if not line.startswith(_DATA) or line == _DATA + _DONE:
                    continue
                chunk = json.loads(line.removeprefix(_DATA))
                if "error" in chunk:
                    told = chunk["error"].get("message", "")
                    raise Unavailable(f"the engine gave up: {told}", reason="ENGINE_LOST")
                if chunk.get("model") != model:
                    # Never pass on what another model has written.
                    raise Internal("the engine answered as another model", reason="WRONG_MODEL")
                for piece in answers.read(chunk):
                    yield piece

    async def _limit(self, request: GenerateRequest, model: str) -> int | None:
        """Return the most tokens to write, None for as many as fit.

        vLLM refuses what does not fit into its context, and writes 16 tokens after a text when it
        is not told how many. InvalidArgument when the prompt alone is too long.
        """
        wanted = request.sampling.max_tokens
        told = bool(wanted or request.messages)
        # A token has a byte at least, and templates add few.
        if told and 2 * (request.ByteSize() + wanted) < self._context:
            return wanted or None
        async with self._server.asking():
            response = await self._server.client.post(
                "/tokenize", json=count_body_of(request, model)
            )
        if not response.is_success:
            raise _refusal(response.status_code, response.content, response.headers)
        count = int(response.json()["count"])
        if count >= self._context:
            field = "text" if request.text else "messages"
            raise InvalidArgument(
                f"the {field} have {count} tokens, but this model's context is {self._context} "
                "tokens, the answer included; shorten them",
                reason="CONTEXT_LENGTH_EXCEEDED",
                field=field,
                metadata={"prompt_tokens": str(count), "context_tokens": str(self._context)},
            )
        return min(wanted or self._context, self._context - count)


def _refusal(status: int, content: bytes, headers: httpx2.Headers) -> PlatformError | _Unknown:
    """Return what a refusal of vLLM's means; its message is for the caller."""
    try:
        told = str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        told = content.decode(errors="replace")[:200]
    if status == 404:
        return _Unknown(f"the engine does not know the model: {told}")
    if status in (429, 503):
        seconds = headers.get("retry-after", "1")
        return ResourceExhausted(
            "the engine has as many calls as it takes; ask again later",
            reason="ENGINE_BUSY",
            metadata={RETRY_AFTER: seconds if seconds.isdigit() else "1"},
        )
    if status in (401, 403):
        return FailedPrecondition(
            "the engine refuses our api_key; set it in LUTHIER_ENGINES", reason="ENGINE_FORBIDS"
        )
    if status < 500:
        return InvalidArgument(f"the engine refuses this: {told}", reason="ENGINE_REFUSED")
    return Unavailable(f"the engine failed: {told}", reason="ENGINE_LOST")


async def connect_vllm(
    base: BaseModel, url: str, config: VllmEngines, blobs: Blobs, folders: AdapterFolders
) -> VllmEngine:
    """Return the server at `url`; FailedPrecondition when it serves something else."""
    if is_seq2seq(base.architecture):
        raise FailedPrecondition(
            f"{base.name} is an encoder-decoder, which vLLM does not serve; leave it out of "
            "LUTHIER_ENGINES, so that our own engine does",
            reason="ENGINE_CANNOT_SERVE",
            field="model",
        )
    text = await read_base_text(blobs, base)
    server = Server(url, config.api_key.get_secret_value())
    try:
        cards = await _cards(base, server)
        card = _own_card(base, config, url, [each for each in cards if not each.get("parent")])
        adapters = VllmAdapters(
            server, folders, limit=config.max_adapters, rank=config.max_lora_rank
        )
        others = [each for each in cards if each.get("parent")]
        adapters.reconcile(others)
        zero = None
        if not config.on_gpu:
            zero = await load_zero_adapter(base, blobs, adapters, others=bool(others))
    except BaseException:
        await server.stop()
        raise
    server.watch()
    return VllmEngine(base, server, card, adapters, text, zero)


async def _cards(base: BaseModel, server: Server) -> list[dict[str, Any]]:
    try:
        async with server.asking():
            response = await server.client.get("/v1/models", timeout=10.0)
    except Unavailable as error:
        raise Unavailable(
            f"the vLLM server of {base.name} cannot be reached", reason="ENGINE_NOT_STARTED"
        ) from error
    if not response.is_success:
        raise _refusal(response.status_code, response.content, response.headers)
    cards: list[dict[str, Any]] = response.json()["data"]
    return cards


def _own_card(
    base: BaseModel, config: VllmEngines, url: str, cards: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the base model's card; a server has one model, under one name or several."""
    names = {name for card in cards for name in (card["id"], card.get("root"))}
    if not cards or (config.model and config.model not in names):
        found = ", ".join(f"{card['id']} ({card.get('root')})" for card in cards) or "nothing"
        raise FailedPrecondition(
            f"the vLLM server {url} serves {found}, but LUTHIER_ENGINES says that it serves "
            f"{base.name} as {config.model or 'its model'}",
            reason="ENGINE_BASE_MISMATCH",
        )
    return cards[0]
