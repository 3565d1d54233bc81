"""What a request for text must be like: messages, tools and sampling parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from luthier.inference.v1.generation_pb2 import (
    AnswerFormat,
    ChatMessage,
    SamplingParameters,
    Tool,
    ToolCall,
    ToolChoice,
)
from luthier_common.errors import InvalidArgument

_ROLES = ("system", "user", "assistant", "tool")
_STOPS_LIMIT = 4
_STOP_CHARACTERS = 1000
_TOP_LOGPROBS_LIMIT = 20
_BIASES_LIMIT = 1024
_ANSWERS_LIMIT = 16
_TOOLS_LIMIT = 128
_TEXTS_LIMIT = 2048
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_messages(messages: Sequence[ChatMessage]) -> None:
    """InvalidArgument names the message at fault."""
    if not messages:
        raise _invalid("messages", "must not be empty")
    calls: set[str] = set()
    for index, message in enumerate(messages):
        field = f"messages[{index}]"
        if message.role not in _ROLES:
            raise _invalid(f"{field}.role", f"must be one of {', '.join(_ROLES)}")
        if message.tool_calls and message.role != "assistant":
            raise _invalid(f"{field}.tool_calls", "are only an assistant's")
        if message.role == "tool" and message.tool_call_id not in calls:
            raise _invalid(f"{field}.tool_call_id", "must be the id of a call before it")
        if message.role != "tool" and message.tool_call_id:
            raise _invalid(f"{field}.tool_call_id", "is only a tool's")
        for at, call in enumerate(message.tool_calls):
            _check_call(call, f"{field}.tool_calls[{at}]")
            calls.add(call.id)


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """InvalidArgument names the tool at fault."""
    if len(tools) > _TOOLS_LIMIT:
        raise _invalid("tools", f"must be at most {_TOOLS_LIMIT}")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        field = f"tools[{index}]"
        _check_tool_name(tool.name, f"{field}.name")
        if tool.name in names:
            raise _invalid(f"{field}.name", "occurs twice")
        names.add(tool.name)
        if tool.parameters_schema:
            _check_object(tool.parameters_schema, f"{field}.parameters_schema")
    if choice.mode == ToolChoice.REQUIRED and not tools:
        raise _invalid("tool_choice.mode", "needs tools")
    if choice.name and choice.mode != ToolChoice.REQUIRED:
        raise _invalid("tool_choice.name", "goes with the mode REQUIRED only")
    if choice.name and choice.name not in names:
        raise _invalid("tool_choice.name", "must be one of the tools")


def check_text(text: str) -> None:
    """InvalidArgument when there is nothing to go on with."""
    if not text:
        raise _invalid("text", "must not be empty")


def check_texts(texts: Sequence[str]) -> None:
    """InvalidArgument names the text at fault."""
    if not 0 < len(texts) <= _TEXTS_LIMIT:
        raise _invalid("texts", f"must be 1 to {_TEXTS_LIMIT}")
    for index, text in enumerate(texts):
        if not text:
            raise _invalid(f"texts[{index}]", "must not be empty")


def check_sampling(sampling: SamplingParameters) -> None:
    """InvalidArgument names the parameter at fault."""
    if sampling.max_tokens < 0:
        raise _invalid("sampling.max_tokens", "must not be negative")
    if sampling.top_k < 0:
        raise _invalid("sampling.top_k", "must not be negative")
    # Written so that NaN fails too.
    if sampling.HasField("temperature") and not 0 <= sampling.temperature <= 2:
        raise _invalid("sampling.temperature", "must be from 0 to 2")
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        raise _invalid("sampling.top_p", "must be above 0 and at most 1")
    if not 0 <= sampling.min_p <= 1:
        raise _invalid("sampling.min_p", "must be from 0 to 1")
    for name in ("presence_penalty", "frequency_penalty"):
        if not -2 <= getattr(sampling, name) <= 2:
            raise _invalid(f"sampling.{name}", "must be from -2 to 2")
    if sampling.HasField("repetition_penalty") and not 0 < sampling.repetition_penalty < 1e6:
        raise _invalid("sampling.repetition_penalty", "must be above 0")
    if not 0 <= sampling.answer_count <= _ANSWERS_LIMIT:
        raise _invalid("sampling.answer_count", f"must be from 1 to {_ANSWERS_LIMIT}")
    _check_stops(sampling.stop)
    _check_logprobs(sampling)
    _check_format(sampling.format)


def _check_stops(stops: Sequence[str]) -> None:
    if len(stops) > _STOPS_LIMIT:
        raise _invalid("sampling.stop", f"must be at most {_STOPS_LIMIT} texts")
    for index, stop in enumerate(stops):
        if not 0 < len(stop) <= _STOP_CHARACTERS:
            field = f"sampling.stop[{index}]"
            raise _invalid(field, f"must have 1 to {_STOP_CHARACTERS} characters")


def _check_logprobs(sampling: SamplingParameters) -> None:
    if not 0 <= sampling.top_logprobs <= _TOP_LOGPROBS_LIMIT:
        raise _invalid("sampling.top_logprobs", f"must be from 0 to {_TOP_LOGPROBS_LIMIT}")
    if sampling.top_logprobs and not sampling.logprobs:
        raise _invalid("sampling.top_logprobs", "needs logprobs")
    if len(sampling.logit_bias) > _BIASES_LIMIT:
        raise _invalid("sampling.logit_bias", f"must be of at most {_BIASES_LIMIT} tokens")
    for token, bias in sampling.logit_bias.items():
        if token < 0 or not -100 <= bias <= 100:
            raise _invalid(f"sampling.logit_bias[{token}]", "must be of a token, from -100 to 100")


def _check_format(wanted: AnswerFormat) -> None:
    if wanted.WhichOneof("kind") == "json_schema":
        _check_object(wanted.json_schema, "sampling.format.json_schema")


def _check_call(call: ToolCall, field: str) -> None:
    if not call.id:
        raise _invalid(f"{field}.id", "must not be empty")
    _check_tool_name(call.name, f"{field}.name")
    _check_object(call.arguments, f"{field}.arguments")


def _check_tool_name(name: str, field: str) -> None:
    if _TOOL_NAME.fullmatch(name) is None:
        raise _invalid(field, "must be 1 to 64 letters, digits, underscores and dashes")


def _check_object(text: str, field: str) -> None:
    try:
        is_object = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise _invalid(field, "must be a JSON object")


def _invalid(field: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {what}", reason="INVALID_GENERATION_REQUEST", field=field)
