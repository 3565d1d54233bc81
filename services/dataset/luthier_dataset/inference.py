"""The inference service as this service sees it: base models, and what they write."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from luthier.inference.v1.adapter_service_pb2 import GetAdapterRequest
from luthier.inference.v1.adapter_service_pb2_grpc import AdapterServiceStub
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.base_model_service_pb2 import GetBaseModelRequest
from luthier.inference.v1.base_model_service_pb2_grpc import BaseModelServiceStub
from luthier.inference.v1.generation_pb2 import ChatMessage, Finish, SamplingParameters
from luthier.inference.v1.generation_service_pb2 import StreamChatRequest, StreamChatResponse
from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceStub
from luthier_common.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.identity import service_identity
from luthier_common.rpc.client import Channel

from luthier_dataset.metrics import Metrics
from luthier_dataset.recipes.recipe import Reply

if TYPE_CHECKING:
    # The typed side of the stub exists for type checkers only.
    from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub

TRANSIENT = (Unavailable, DeadlineExceeded, ResourceExhausted, Aborted)
"""Errors that waiting cures."""
_CALL_SECONDS = 300.0
_MOST_DEFECTS = 5
"""Internal errors of the service, and answers that take too long, that one question survives."""

logger = logging.getLogger(__name__)


class Inference:
    """Asks the inference service in the name of a project."""

    def __init__(self, channel: Channel, metrics: Metrics) -> None:
        self._channel = channel
        self._metrics = metrics

    async def base_model(self, project: str, name: str) -> BaseModel:
        """Return a base model of the project or the library; NotFound."""
        stub = BaseModelServiceStub(self._as(project))
        return await stub.GetBaseModel(GetBaseModelRequest(name=name))

    async def digest(self, project: str, name: str) -> str:
        """Return the digest of a base model or an adapter; NotFound."""
        if not is_adapter(name):
            return (await self.base_model(project, name)).digest
        stub = AdapterServiceStub(self._as(project))
        return (await stub.GetAdapter(GetAdapterRequest(name=name))).digest

    def model(self, project: str, name: str, digest: str) -> RemoteModel:
        """Return a model to put questions to; answers of another digest are refused."""
        stub = GenerationServiceStub(self._as(project))
        return RemoteModel(stub, self._metrics, f"projects/{project}", name, digest)

    def _as(self, project: str) -> Channel:
        return self._channel.with_identity(service_identity(project, "dataset"))


def is_adapter(name: str) -> bool:
    """Whether the resource name of a model is that of an adapter."""
    return "/adapters/" in name


class RemoteModel:
    """A base model or adapter behind the inference service, asked greedily."""

    def __init__(
        self,
        stub: GenerationServiceAsyncStub,
        metrics: Metrics,
        parent: str,
        name: str,
        digest: str,
    ) -> None:
        self._stub = stub
        self._metrics = metrics
        self._parent = parent
        self._name = name
        self._digest = digest

    async def ask(self, prompt: str, max_tokens: int, *, patience: float | None = None) -> Reply:
        """Return the answer; errors that waiting does not cure come out.

        Waits for as long as the service is away; with `patience`, Unavailable where a try fails
        so many seconds after the first one began.
        """
        backoff, defects, began = Backoff(), 0, time.monotonic()
        while True:
            try:
                reply = await self._ask(prompt, max_tokens)
            except (*TRANSIENT, Internal) as error:
                defects += isinstance(error, (Internal, DeadlineExceeded))
                self._metrics.model_calls.labels(error.code).inc()
                if defects == _MOST_DEFECTS:
                    raise _given_up(error) from error
                if patience is not None and time.monotonic() - began >= patience:
                    raise Unavailable(
                        f"{self._name} does not answer: {error.message}", reason="MODEL_AWAY"
                    ) from error
                self._log(error)
                await backoff.wait()
            else:
                self._metrics.model_calls.labels("OK").inc()
                return reply

    async def _ask(self, prompt: str, max_tokens: int) -> Reply:
        request = StreamChatRequest(
            parent=self._parent,
            model=self._name,
            messages=[ChatMessage(role="user", content=prompt)],
            sampling=SamplingParameters(max_tokens=max_tokens, temperature=0),
        )
        text = ""
        responses = self._stub.StreamChat(request, timeout=_CALL_SECONDS)
        try:
            async for response in responses:
                self._check_digest(response)
                text += response.text
                if response.HasField("finish"):
                    complete = response.finish.reason == Finish.FinishReason.STOP
                    return Reply(text, complete)
        finally:
            responses.cancel()
        # Half an answer would pass for a whole one.
        raise Unavailable("the answer broke off", reason="ANSWER_BROKEN_OFF")

    def _check_digest(self, response: StreamChatResponse) -> None:
        adapter = is_adapter(self._name)
        digest = response.adapter_digest if adapter else response.base_model_digest
        if digest and digest != self._digest:
            raise FailedPrecondition(
                f"{self._name} has changed since the dataset was asked for",
                reason="MODEL_CHANGED" if adapter else "BASE_MODEL_CHANGED",
            )

    def _log(self, error: PlatformError) -> None:
        logger.warning(
            "the model did not answer; asking again",
            extra={"model": self._name, "reason": error.reason, "detail": error.message},
        )


def _given_up(error: PlatformError) -> PlatformError:
    """An error that no more waiting follows."""
    if isinstance(error, DeadlineExceeded):
        return FailedPrecondition(
            f"the model needed more than {_CALL_SECONDS:.0f} seconds for an answer, "
            f"{_MOST_DEFECTS} times; ask for shorter ones",
            reason="MODEL_TOO_SLOW",
        )
    return error


class Backoff:
    """Growing pauses with jitter: 0.2 seconds at first, 10 at most."""

    def __init__(self) -> None:
        self._seconds = 0.2

    async def wait(self) -> None:
        """Pause, and make the next pause longer."""
        await asyncio.sleep(self._seconds * random.uniform(0.5, 1))
        self._seconds = min(2 * self._seconds, 10.0)
