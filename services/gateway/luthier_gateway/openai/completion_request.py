"""The body of `POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from luthier.inference.v1 import generation_pb2, generation_service_pb2
from pydantic import BeforeValidator, Field

from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.generation_request import GenerationRequest, as_texts
from luthier_gateway.requests import Text

_MAX_TOKENS = 16  # OpenAI's, where none is given


class CompletionRequest(GenerationRequest):
    """Texts to go on with, or for an encoder-decoder to answer."""

    unsupported: ClassVar = {"suffix": (None, "")}

    prompt: Annotated[list[Text], Field(min_length=1, max_length=128), BeforeValidator(as_texts)]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: int | None = None

    def check(self) -> None:
        """Refuse also more candidates than answers, and figures that are not computed."""
        super().check()
        if self.best_of not in (None, self.n or 1):
            raise invalid(
                "best_of must be n or left out: every answer written is returned",
                "best_of",
                reason="UNSUPPORTED_PARAMETER",
            )
        if self.echo and self.logprobs is not None:
            raise invalid(
                "echo must be left out with logprobs: those of the prompt are not computed",
                "echo",
                reason="UNSUPPORTED_PARAMETER",
            )

    def sampling(self) -> generation_pb2.SamplingParameters:
        """Return how tokens are chosen."""
        sampling = super().sampling()
        sampling.max_tokens = sampling.max_tokens or _MAX_TOKENS
        sampling.logprobs = self.logprobs is not None
        sampling.top_logprobs = self.logprobs or 0
        return sampling

    def to_protos(
        self, parent: str, model: str
    ) -> list[generation_service_pb2.StreamCompleteRequest]:
        """Return a request for each prompt, each for all `n` answers to it."""
        sampling = self.sampling()
        return [
            generation_service_pb2.StreamCompleteRequest(
                parent=parent, model=model, text=text, sampling=sampling
            )
            for text in self.prompt
        ]
