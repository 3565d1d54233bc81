"""text-generation-inference: one replica, with the adapters that it was started with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from huggingface_hub import (
    AsyncInferenceClient,
    TextGenerationStreamOutput,
    TextGenerationStreamOutputToken,
    set_async_client_factory,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    InferenceTimeoutError,
    OverloadedError,
    TextGenerationError,
    ValidationError,
)
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
from luthier.inference.v1.generation_pb2 import Finish, Token
from luthier_common.errors import (
    FailedPrecondition,
    InvalidArgument,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.objects.blobs import Blobs
from luthier_common.rpc.status import RETRY_AFTER

from luthier_inference.engines.adapter_folders import AdapterFolders, check_method, check_own
from luthier_inference.engines.base_text import BaseText, read_base_text
from luthier_inference.engines.configuration import TgiEngines
from luthier_inference.engines.merging import merged
from luthier_inference.engines.server import Server
from luthier_inference.engines.stops import StopTexts
from luthier_inference.engines.tgi_wire import new_client, parameters_of, seeded

_REASONS = {"length": Finish.LENGTH, "eos_token": Finish.STOP, "stop_sequence": Finish.STOP}
_NO_KEY = "none"  # left out, the hub's client would send the token of the hub
_PROBE = "The"
_PROBE_TOKENS = 4
_SAME_LOGPROB = 1e-4

logger = logging.getLogger(__name__)


class TgiEngine:
    """One text-generation-inference server.

    Its log-probabilities are of what it draws from, that is after temperature and penalties, and
    its frequency penalty counts the prompt's tokens, too.
    """

    def __init__(
        self, base: BaseModel, server: Server, config: TgiEngines, text: BaseText,
        folders: AdapterFolders, info: dict[str, Any],
    ) -> None:  # fmt: skip
        self._base = base
        self._server = server
        self._token = config.api_key.get_secret_value() or _NO_KEY
        self._text = text
        self._folders = folders
        self._context = min(info["max_total_tokens"], base.context_tokens)
        self._input = min(info["max_input_tokens"], self._context - 1)
        self._adapters: frozenset[str] = frozenset()

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
        """Digests of the adapters it was started with."""
        return self._adapters

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
        """Stream the answers; leaving them closes the connections, which ends them there."""
        if request.base_model_digest != self._base.digest:
            raise FailedPrecondition(
                "this engine holds another base model", reason="BASE_MODEL_MISMATCH"
            )
        if request.HasField("adapter"):
            await self._check_adapter(request.adapter, request.parent)
        parameters = parameters_of(request)
        prompt, parameters["max_new_tokens"] = await asyncio.to_thread(self._prompt, request)
        answers = [
            self._answer(request, prompt, seeded(parameters, index), index)
            for index in range(request.sampling.answer_count or 1)
        ]
        async with contextlib.aclosing(merged(answers)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, request: EmbedTextsRequest) -> EmbedTextsResponse:
        """FailedPrecondition: it has no vectors."""
        raise FailedPrecondition(
            f"{self._base.name} is served by text-generation-inference, which has no embeddings; "
            "ask a base model that is served by our own engine",
            reason="EMBEDDINGS_NOT_SERVED",
            field="model",
        )

    async def hold(self, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Confirm an adapter of its start, which stays; FailedPrecondition for any other."""
        if request.hold == HoldAdapterRequest.UNLOADED:
            raise FailedPrecondition(
                "text-generation-inference unloads no adapters; take "
                f"{request.adapter.digest} out of LORA_ADAPTERS and of LUTHIER_ENGINES, and "
                "restart both",
                reason="ENGINE_CANNOT_UNLOAD",
            )
        if request.hold != HoldAdapterRequest.UNPINNED:
            await self._check_adapter(request.adapter, request.parent)
        return HoldAdapterResponse(adapter_digest=request.adapter.digest)

    async def ended(self) -> str:
        """Wait until it does not answer any more."""
        return await self._server.ended()

    async def stop(self) -> None:
        """Let go of it."""
        await self._server.stop()

    async def reconcile(self, configured: tuple[str, ...]) -> None:
        """Find out which of the configured adapters the server really has.

        It does not say, and answers for an adapter that it does not know with the base model
        alone (server/text_generation_server/models/flash_causal_lm.py), so it is tried.
        """
        if not configured:
            return
        alone = await self._probed(None)
        found = [digest for digest in configured if await self._probed(digest) != alone]
        self._adapters = frozenset(found)
        missing = sorted(set(configured) - self._adapters)
        if missing:
            logger.error(
                "the server answers for adapters as the base model alone does: are they in its "
                "LORA_ADAPTERS?",
                extra={"url": self._server.url, "adapters": missing},
            )

    async def _probed(self, digest: str | None) -> list[tuple[int, int]]:
        """Return the tokens of a short answer, with their log-probabilities in steps."""
        parameters = {"adapter_id": digest, "max_new_tokens": _PROBE_TOKENS}
        return [
            (output.token.id, round((output.token.logprob or 0) / _SAME_LOGPROB))
            async for output in self._outputs(_PROBE, parameters)
        ]

    async def _check_adapter(self, adapter: Adapter, parent: str) -> None:
        check_own(adapter, self._base, parent)
        if adapter.digest in self._adapters:
            return
        path = await self._folders.fetch(adapter, self._server.url)
        check_method(adapter, path)
        raise FailedPrecondition(
            f"{adapter.name} is not among the adapters that text-generation-inference was started "
            f"with; its files are in {path}: add {adapter.digest}={path} to LORA_ADAPTERS of every "
            f"replica, {adapter.digest} to `adapters` in LUTHIER_ENGINES, and restart both",
            reason="ADAPTER_NOT_IN_ENGINE",
            field="model",
            metadata={"adapter_digest": adapter.digest},
        )

    def _prompt(self, request: GenerateRequest) -> tuple[str, int]:
        """Return the prompt, and how many tokens may be written.

        The server puts the tokenizer's special tokens around every prompt, also around one that a
        template wrote; FailedPrecondition where that changes what the model reads.
        """
        field, prompt = "text", request.text
        count = len(self._text.tokens(prompt, special=True))
        if request.messages:
            field, written = "messages", self._text.prompt(request.messages)
            wanted = self._text.tokens(written, special=False)
            count = len(wanted)
            prompt = written
            if self._text.tokens(prompt, special=True) != wanted:
                prompt = self._text.without_start(written)
            if self._text.tokens(prompt, special=True) != wanted:
                raise FailedPrecondition(
                    f"text-generation-inference would read the conversation otherwise than "
                    f"{self._base.name} was tuned to; ask it for completions",
                    reason="ENGINE_CANNOT_CHAT",
                    field="model",
                )
        if count > self._input:
            raise InvalidArgument(
                f"the {field} have {count} tokens, but this engine takes {self._input}; "
                "shorten them",
                reason="CONTEXT_LENGTH_EXCEEDED",
                field=field,
                metadata={"prompt_tokens": str(count), "context_tokens": str(self._context)},
            )
        room = self._context - count
        return prompt, min(request.sampling.max_tokens or room, room)

    async def _answer(
        self, request: GenerateRequest, prompt: str, parameters: dict[str, Any], index: int
    ) -> AsyncGenerator[GenerateResponse, None]:
        stops = StopTexts(request.sampling.stop)
        async with contextlib.aclosing(self._outputs(prompt, parameters)) as outputs:
            async for output in outputs:
                details = output.details
                text = "" if output.token.special else output.token.text
                response = GenerateResponse(
                    text=stops.push(text, last=details is not None),
                    adapter_digest=request.adapter.digest,
                    answer_index=index,
                )
                if request.sampling.logprobs:
                    response.tokens.append(self._told(output))
                if details is not None:
                    response.finish.CopyFrom(
                        Finish(
                            reason=_REASONS[details.finish_reason],
                            prompt_tokens=details.input_length,
                            completion_tokens=details.generated_tokens,
                        )
                    )
                if response.text or response.tokens or details is not None:
                    yield response

    def _told(self, output: TextGenerationStreamOutput) -> Token:
        top = [self._token_of(token) for token in output.top_tokens or ()]
        told = self._token_of(output.token)
        told.top.extend(top)
        return told

    def _token_of(self, token: TextGenerationStreamOutputToken) -> Token:
        text = self._text.token_bytes(token.id)
        return Token(id=token.id, text=text, logprob=token.logprob or 0.0)

    async def _outputs(
        self, prompt: str, parameters: dict[str, Any]
    ) -> AsyncGenerator[TextGenerationStreamOutput, None]:
        """Yield what the server streams. A client a call: closing it is what ends the answer."""
        async with (
            self._failures(),
            AsyncInferenceClient(self._server.url, token=self._token) as client,
        ):
            outputs = await client.text_generation(prompt, stream=True, details=True, **parameters)
            async for output in outputs:
                yield output

    @contextlib.asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        try:
            async with self._server.asking():
                yield
        except ValidationError as error:
            raise InvalidArgument(
                f"the engine refuses this: {error}", reason="ENGINE_REFUSED"
            ) from error
        except OverloadedError as error:
            raise ResourceExhausted(
                "the engine has as many calls as it takes; ask again later",
                reason="ENGINE_BUSY",
                metadata={RETRY_AFTER: "1"},
            ) from error
        except (TextGenerationError, HfHubHTTPError, InferenceTimeoutError) as error:
            raise Unavailable(f"the engine failed: {error}", reason="ENGINE_LOST") from error


async def connect_tgi(
    base: BaseModel, url: str, config: TgiEngines, blobs: Blobs, folders: AdapterFolders
) -> TgiEngine:
    """Return the server at `url`, its adapters reconciled; Unavailable when it does not answer."""
    set_async_client_factory(new_client)
    text = await read_base_text(blobs, base)
    server = Server(url, config.api_key.get_secret_value())
    try:
        async with server.asking():
            response = await server.client.get("/info", timeout=10.0)
        if not response.is_success:
            raise Unavailable(f"its /info says {response.status_code}", reason="ENGINE_LOST")
        engine = TgiEngine(base, server, config, text, folders, response.json())
        await engine.reconcile(config.adapters)
    except PlatformError as error:
        await server.stop()
        raise Unavailable(
            f"the text-generation-inference server of {base.name} cannot be used: {error.message}",
            reason="ENGINE_NOT_STARTED",
        ) from error
    except BaseException:
        await server.stop()
        raise
    server.watch()
    return engine
