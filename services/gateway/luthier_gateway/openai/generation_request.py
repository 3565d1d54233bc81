"""What the bodies of chat completions and of completions have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from luthier.inference.v1.generation_pb2 import SamplingParameters
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from luthier_gateway.openai.errors import invalid
from luthier_gateway.requests import Body, Text

_INT32 = 2**31
_INT64 = 2**63
_MOST_BIASES = 1024

# What to use in place of fields that OpenAI itself has given up.
_SUCCESSORS = {"functions": "tools", "function_call": "tool_choice"}


def absent() -> PydanticCustomError:
    """Return what is said of a field that this body, though not every body, must have."""
    return PydanticCustomError("missing", "Field required")


def _as_list(given: object) -> object:
    return [given] if isinstance(given, str) else given


def as_texts(given: object) -> object:
    """Return one text or several as a list; ValueError for tokens."""
    if isinstance(given, list) and any(isinstance(one, int | list) for one in given):
        raise ValueError("must be text; tokens are not supported")
    return _as_list(given)


def _as_json(given: object) -> str:
    if not isinstance(given, dict):
        raise ValueError("must be a JSON object")
    try:
        return json.dumps(given, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


MaxTokens = Annotated[int, Field(ge=1, lt=_INT32)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, lt=_INT32)]
Bias = Annotated[float, Field(ge=-100, le=100)]
StopText = Annotated[str, Field(min_length=1)]
Stop = Annotated[Annotated[list[StopText], Field(max_length=4)] | None, BeforeValidator(_as_list)]

JsonObject = Annotated[Text, BeforeValidator(_as_json)]
"""An object of the body, as JSON text."""

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class StreamOptions(Body):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None


class GenerationRequest(Body):
    """Who is asked, how tokens are chosen, and in what form the answer comes.

    `top_k`, `min_p` and `repetition_penalty` are not OpenAI's; its SDK sends them in `extra_body`.
    """

    model_config = ConfigDict(extra="allow")

    # Fields that change the answer and are not offered, with the values that ask for nothing. To
    # ignore any other value would be to answer another question than was asked.
    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]]

    model: Annotated[str, Field(min_length=1, max_length=300)]
    max_tokens: MaxTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=_INT32)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=_MOST_BIASES)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    stop: Stop = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def check(self) -> None:
        """Refuse what would otherwise be answered wrongly in silence; InvalidArgument."""
        for name, value in (self.model_extra or {}).items():
            if name in self.unsupported and value not in self.unsupported[name]:
                instead = f"; use {_SUCCESSORS[name]}" if name in _SUCCESSORS else ""
                message = f"{name} is not supported{instead}"
                raise invalid(message, name, reason="UNSUPPORTED_PARAMETER")

    def sampling(self) -> SamplingParameters:
        """Return how tokens are chosen; what is left out stays left out."""
        return SamplingParameters(
            max_tokens=self.max_tokens or 0,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0,
            presence_penalty=self.presence_penalty or 0,
            frequency_penalty=self.frequency_penalty or 0,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias or {},
            seed=self.seed,
            stop=self.stop or [],
            answer_count=self.n or 0,
        )

    def wants_usage(self) -> bool:
        """Return whether a stream ends with what was counted."""
        return bool(self.stream_options and self.stream_options.include_usage)
