"""The rules of training rows, checked one by one so that each break can be explained.

`rows` says what the rules are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

OUTPUTS = ("preferred_output", "non_preferred_output")

_ROLES = ("system", "developer", "user", "assistant", "tool")
_UNSUPPORTED_ROW_KEYS = ("functions",)
_UNSUPPORTED_MESSAGE_KEYS = ("function_call",)


class Shape(StrEnum):
    """The shapes of a training row."""

    CHAT = "chat"
    """A conversation; the assistant's messages are learned, but for those of weight 0."""
    TEXT = "text"
    """A text, learned whole."""
    PAIR = "pair"
    """Input and output of a sequence-to-sequence model; the output is learned."""
    PREFERENCE = "preference"
    """A prompt with a preferred and a non-preferred answer (OpenAI's DPO shape)."""


class BadRow(ValueError):
    """A row breaks a rule: `rule` names it for programs, the message says it to people."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(what)
        self.rule = rule


def check_row(row: Mapping[str, Any]) -> Shape:
    """Return the shape of a row; BadRow if it breaks a rule of that shape."""
    shape = shape_of(row)
    match shape:
        case Shape.CHAT:
            _check_chat(row)
        case Shape.TEXT:
            _check_text(row.get("text"), "the text")
        case Shape.PAIR:
            _check_text(row.get("prompt"), "the prompt", may_be_empty=True)
            _check_text(row.get("completion"), "the completion")
        case Shape.PREFERENCE:
            _check_preference(row)
    return shape


def shape_of(row: Mapping[str, Any]) -> Shape:
    """Return the shape that a row claims to have, by its keys; BadRow if there is none."""
    if "messages" in row:
        return Shape.CHAT
    if any(key in row for key in OUTPUTS):
        return Shape.PREFERENCE
    if "completion" in row:
        return Shape.PAIR
    if "text" in row:
        return Shape.TEXT
    others = "text, prompt and completion, or input and preferred_output"
    raise BadRow("unknown_row_format", f"has no messages (nor {others})")


def _check_chat(row: Mapping[str, Any]) -> None:
    messages = _check_talk(row, "")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise BadRow("no_answer", "has no assistant message")
    if roles[-1] != "assistant":
        raise BadRow("no_answer", "the last message is not the assistant's")
    if "user" not in roles:
        raise BadRow("no_prompt", "has no user message")
    answers = [message for message in messages if message["role"] == "assistant"]
    if all(message.get("weight", 1) == 0 for message in answers):
        raise BadRow("no_answer", "has no answer to learn: every weight is 0")
    if not _says_something(messages[-1]):
        raise BadRow("empty_answer", "the last message is empty, so there is nothing to learn")


def _check_preference(row: Mapping[str, Any]) -> None:
    given = row.get("input")
    if not isinstance(given, dict):
        raise BadRow("no_prompt", "the input is not a JSON object")
    roles = [message["role"] for message in _check_talk(given, " of the input")]
    if "user" not in roles:
        raise BadRow("no_prompt", "the input has no user message")
    if roles[-1] == "assistant":
        raise BadRow("no_prompt", "the last message of the input is the assistant's")
    for key in OUTPUTS:
        output = row.get(key)
        if not isinstance(output, list) or len(output) != 1:
            raise BadRow("no_answer", f"{key} is not a list of one message")
        _check_message(output[0], f"the message of {key}")
        if output[0]["role"] != "assistant":
            raise BadRow("no_answer", f"the message of {key} is not the assistant's")
        if not _says_something(output[0]):
            raise BadRow("empty_answer", f"the message of {key} is empty")
    if _said(row[OUTPUTS[0]][0]) == _said(row[OUTPUTS[1]][0]):
        raise BadRow("no_preference", "both outputs are the same, so there is nothing to learn")


def _check_talk(talk: Mapping[str, Any], of: str) -> list[dict[str, Any]]:
    _refuse_keys(talk, _UNSUPPORTED_ROW_KEYS, "the row")
    _check_tools(talk)
    messages = talk.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRow("no_messages", f"has no messages{of}")
    waiting: set[str] = set()
    for number, message in enumerate(messages, start=1):
        name = f"message {number}{of}"
        _check_message(message, name)
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                raise BadRow("bad_tool_call", f"{name} answers no tool call right before it")
            waiting.remove(message["tool_call_id"])
        elif waiting:
            raise BadRow("bad_tool_call", f"{name} comes before every tool call is answered")
        else:
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    return messages


def _check_message(message: object, name: str) -> None:
    if not isinstance(message, dict):
        raise BadRow("bad_message", f"{name} is not a JSON object")
    _refuse_keys(message, _UNSUPPORTED_MESSAGE_KEYS, name)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRow("unknown_role", f"{name} has the unknown role {json.dumps(role)[:40]}")
    calls = message.get("tool_calls")
    if calls is not None:
        if role != "assistant":
            raise BadRow("bad_tool_call", f"{name} has tool_calls but is not the assistant's")
        _check_calls(calls, name)
    if content is not None or not calls:
        _check_text(content, f"the content of {name}", may_be_empty=True)
    if role == "tool":
        _check_text(message.get("tool_call_id"), f"the tool_call_id of {name}")
    if message.get("weight", 1) not in (0, 1) or ("weight" in message and role != "assistant"):
        raise BadRow("bad_weight", f"{name} has a weight that is not an assistant's 0 or 1")


def _check_calls(calls: object, name: str) -> None:
    if not isinstance(calls, list):
        raise BadRow("bad_tool_call", f"the tool_calls of {name} are not a list")
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or call.get("type") != "function":
            raise BadRow("bad_tool_call", f"{name} has a tool call that is not of a function")
        _check_text(call.get("id"), f"the id of a tool call of {name}")
        _check_text(function.get("name"), f"the name of a function called by {name}")
        _check_text(
            function.get("arguments"), f"the arguments of a tool call of {name}", may_be_empty=True
        )


def _check_tools(talk: Mapping[str, Any]) -> None:
    if not isinstance(talk.get("parallel_tool_calls"), bool | None):
        raise BadRow("bad_tools", "parallel_tool_calls is neither true nor false")
    tools = talk.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list):
        raise BadRow("bad_tools", "the tools are not a list")
    for number, tool in enumerate(tools, start=1):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise BadRow("bad_tools", f"tool {number} is not a function")
        _check_text(function.get("name"), f"the name of tool {number}")
        if not isinstance(function.get("parameters"), dict | None):
            raise BadRow("bad_tools", f"the parameters of tool {number} are not a JSON object")
    try:
        json.dumps(tools, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise BadRow("bad_tools", "the tools hold a number or text that JSON has not") from error


def _check_text(text: object, name: str, *, may_be_empty: bool = False) -> None:
    if not isinstance(text, str):
        raise BadRow("bad_content", f"{name} is not a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow("bad_content", f"{name} is not valid Unicode") from error
    if not may_be_empty and not text.strip():
        raise BadRow("empty_answer", f"{name} is empty")


def _says_something(message: Mapping[str, Any]) -> bool:
    content, calls = _said(message)
    return bool(content.strip() or calls)


def _said(message: Mapping[str, Any]) -> tuple[str, list[Any]]:
    return message.get("content") or "", message.get("tool_calls") or []


def _refuse_keys(part: Mapping[str, object], keys: Sequence[str], name: str) -> None:
    for key in keys:
        if key in part:
            what = f"{name} has the key {json.dumps(key)}, which is not supported"
            raise BadRow("unsupported_key", what)
