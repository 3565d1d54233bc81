"""Tools as OpenAI has them: functions that an answer may call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from luthier.inference.v1 import generation_pb2
from pydantic import BeforeValidator, Field, field_validator

from luthier_gateway.openai.generation_request import FunctionName, JsonObject, absent
from luthier_gateway.requests import Body, Text

_MODES = {
    "none": generation_pb2.ToolChoice.NONE,
    "auto": generation_pb2.ToolChoice.AUTO,
    "required": generation_pb2.ToolChoice.REQUIRED,
    "function": generation_pb2.ToolChoice.REQUIRED,
}


class Function(Body):
    """What a tool is; `strict` asks for what is always done."""

    name: FunctionName
    description: Text | None = None
    parameters: JsonObject | None = None


class Tool(Body):
    """A tool that may be called."""

    type: Literal["function"]
    function: Function

    def to_proto(self) -> generation_pb2.Tool:
        """Return the tool."""
        return generation_pb2.Tool(
            name=self.function.name,
            description=self.function.description or "",
            parameters_schema=self.function.parameters or "",
        )


class CalledFunction(Body):
    """The function of a call, and its arguments, which are JSON."""

    name: FunctionName
    arguments: Text


class ToolCall(Body):
    """A call in an earlier answer."""

    id: Annotated[Text, Field(min_length=1)]
    type: Literal["function"]
    function: CalledFunction

    def to_proto(self) -> generation_pb2.ToolCall:
        """Return the call."""
        called = self.function
        return generation_pb2.ToolCall(id=self.id, name=called.name, arguments=called.arguments)


class ChosenFunction(Body):
    """The one function to be called."""

    name: FunctionName


class ToolChoice(Body):
    """Which tools an answer calls."""

    type: Literal["none", "auto", "required", "function"]
    function: Annotated[ChosenFunction | None, Field(validate_default=True)] = None

    @field_validator("function")
    @classmethod
    def _named(cls, function: ChosenFunction | None, info: Any) -> ChosenFunction | None:
        if function is None and info.data.get("type") == "function":
            raise absent()
        return function

    def to_proto(self) -> generation_pb2.ToolChoice:
        """Return the choice."""
        name = self.function.name if self.function else ""
        return generation_pb2.ToolChoice(mode=_MODES[self.type], name=name)


def _as_choice(given: object) -> object:
    return {"type": given} if isinstance(given, str) else given


GivenToolChoice = Annotated[ToolChoice, BeforeValidator(_as_choice)]
"""A word, or a function by its name."""


def shown_call(call: generation_pb2.ToolCall) -> dict[str, Any]:
    """Return a call of an answer."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
