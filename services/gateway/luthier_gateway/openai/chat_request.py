"""The body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from luthier.inference.v1 import generation_pb2, generation_service_pb2
from pydantic import BeforeValidator, ConfigDict, Field

from luthier_gateway.openai.errors import invalid
from luthier_gateway.requests import Body, Text

_INT32 = 2**31
_INT64 = 2**63

# Fields that change the answer and are not offered, with the values that ask for nothing. To
# ignore any other value would be to answer another question than was asked.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none", "auto"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "web_search_options": (None,),
}


def _as_text(content: object) -> object:
    """Join the parts of a message; parts other than text are refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for number, part in enumerate(content):
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str) or part.get("type") != "text":
            raise ValueError(f"part {number} must be {{'type': 'text', 'text': …}}")
        texts.append(text)
    return "".join(texts)


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class Message(Body):
    """One message of the conversation."""

    role: Literal["developer", "system", "user", "assistant"]
    content: Annotated[Text, BeforeValidator(_as_text)]

    def to_proto(self) -> generation_pb2.ChatMessage:
        """Return the message; `developer` is the newer word for `system`."""
        role = "system" if self.role == "developer" else self.role
        return generation_pb2.ChatMessage(role=role, content=self.content)


class StreamOptions(Body):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None


MaxTokens = Annotated[int, Field(ge=1, lt=_INT32)]
StopText = Annotated[str, Field(min_length=1)]
Stop = Annotated[Annotated[list[StopText], Field(max_length=4)] | None, BeforeValidator(_as_list)]


class ChatRequest(Body):
    """A conversation to go on with."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1, max_length=300)]
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: MaxTokens | None = None
    max_tokens: MaxTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    stop: Stop = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def check(self) -> None:
        """Refuse what would otherwise be answered wrongly in silence; InvalidArgument."""
        for name, value in (self.model_extra or {}).items():
            if name in _NEUTRAL and value not in _NEUTRAL[name]:
                raise invalid(f"{name} is not supported yet", name, reason="UNSUPPORTED_PARAMETER")

    def to_protos(self, parent: str, model: str) -> list[generation_service_pb2.StreamChatRequest]:
        """Return one request for each of the `n` answers; with a seed, each has its own."""
        return [
            generation_service_pb2.StreamChatRequest(
                parent=parent,
                model=model,
                messages=[message.to_proto() for message in self.messages],
                sampling=self._sampling(index),
            )
            for index in range(self.n or 1)
        ]

    def _sampling(self, index: int) -> generation_pb2.SamplingParameters:
        seed = None if self.seed is None else (self.seed + index + _INT64) % 2**64 - _INT64
        return generation_pb2.SamplingParameters(
            max_tokens=self.max_completion_tokens or self.max_tokens or 0,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=seed,
            stop=self.stop or [],
        )
