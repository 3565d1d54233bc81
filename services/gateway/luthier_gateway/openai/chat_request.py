"""The body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from luthier.inference.v1 import generation_pb2, generation_service_pb2
from pydantic import BeforeValidator, Field, field_validator

from luthier_gateway.openai.answer_format import ResponseFormat
from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.generation_request import GenerationRequest, MaxTokens, absent
from luthier_gateway.openai.tools import GivenToolChoice, Tool, ToolCall
from luthier_gateway.requests import Body, Text


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


class Message(Body):
    """One message of the conversation."""

    role: Literal["developer", "system", "user", "assistant", "tool"]
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Annotated[Text | None, Field(validate_default=True)] = None
    content: Annotated[Text | None, BeforeValidator(_as_text), Field(validate_default=True)] = None
    # Parts of an answer that are not offered; without them it would be another answer.
    function_call: None = None
    audio: None = None

    @field_validator("tool_call_id")
    @classmethod
    def _answers_a_call(cls, call: str | None, info: Any) -> str | None:
        if not call and info.data.get("role") == "tool":
            raise absent()
        return call

    @field_validator("content")
    @classmethod
    def _says_something(cls, content: str | None, info: Any) -> str | None:
        if content is None and not info.data.get("tool_calls"):
            raise absent()
        return content

    def to_proto(self) -> generation_pb2.ChatMessage:
        """Return the message; `developer` is the newer word for `system`."""
        return generation_pb2.ChatMessage(
            role="system" if self.role == "developer" else self.role,
            content=self.content or "",
            tool_calls=[call.to_proto() for call in self.tool_calls or ()],
            tool_call_id=self.tool_call_id or "",
        )


class ChatRequest(GenerationRequest):
    """A conversation to go on with."""

    unsupported: ClassVar = {
        "audio": (None,),
        "function_call": (None, "none", "auto"),
        "functions": (None, []),
        "modalities": (None, ["text"]),
        "moderation": (None,),
        "prediction": (None,),
        "web_search_options": (None,),
    }

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: GivenToolChoice | None = None
    parallel_tool_calls: bool | None = None

    def check(self) -> None:
        """Refuse also what contradicts itself."""
        super().check()
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs needs logprobs to be true", "top_logprobs")
        if self.tool_choice is None or self.tool_choice.type in ("none", "auto"):
            return
        names = [tool.function.name for tool in self.tools or ()]
        if not names:
            raise invalid("tool_choice needs tools to choose from", "tool_choice")
        chosen = self.tool_choice.function
        if chosen is not None and chosen.name not in names:
            raise invalid(f"tool_choice names {chosen.name}, which tools has not", "tool_choice")

    def sampling(self) -> generation_pb2.SamplingParameters:
        """Return how tokens are chosen; the newer limit of tokens goes before the older one."""
        sampling = super().sampling()
        sampling.max_tokens = self.max_completion_tokens or sampling.max_tokens
        sampling.logprobs = bool(self.logprobs)
        sampling.top_logprobs = self.top_logprobs or 0
        form = self.response_format and self.response_format.to_proto()
        if form:
            sampling.format.CopyFrom(form)
        return sampling

    def to_proto(self, parent: str, model: str) -> generation_service_pb2.StreamChatRequest:
        """Return the request for all `n` answers; a choice without tools is none."""
        choice = self.tool_choice.to_proto() if self.tool_choice and self.tools else None
        return generation_service_pb2.StreamChatRequest(
            parent=parent,
            model=model,
            messages=[message.to_proto() for message in self.messages],
            sampling=self.sampling(),
            tools=[tool.to_proto() for tool in self.tools or ()],
            tool_choice=choice,
        )
