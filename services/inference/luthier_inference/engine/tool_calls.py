"""Calls of tools in what a model writes, in the formats that chat templates teach."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.inference.v1.generation_pb2 import Tool, ToolCall


@dataclass(frozen=True)
class ToolFormat:
    """How calls are written: JSON between two marks."""

    opens: str
    """Before a call, or a list of them; empty where the answer itself is one."""
    closes: str
    arguments: str = "arguments"
    """The key of the arguments."""
    listed: bool = False
    """Whether calls come as one JSON list."""

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks, without line ends."""
        return tuple(mark.strip() for mark in (self.opens, self.closes) if mark.strip())

    def grammar(self, tools: Sequence[Tool], *, opening: int | None = None) -> str:
        """Return the grammar of one call, for llguidance (Lark with JSON schemas).

        `opening` is the token of `opens` where that is one of the tokenizer's signs.
        """
        schema: dict[str, Any] = {"anyOf": [self._schema(tool) for tool in tools]}
        if self.listed:
            schema = {"type": "array", "items": schema, "minItems": 1}
        first = f"<[{opening}]>" if opening is not None else _quoted(self.opens)
        parts = [first, "call", _quoted(self.closes)]
        return f"start: {' '.join(filter(None, parts))}\ncall: %json {json.dumps(schema)}\n"

    def _schema(self, tool: Tool) -> dict[str, Any]:
        parameters = json.loads(tool.parameters_schema or '{"type": "object"}')
        return {
            "type": "object",
            "properties": {"name": {"const": tool.name}, self.arguments: parameters},
            "required": ["name", self.arguments],
            "additionalProperties": False,
        }

    def may_begin(self, text: str) -> int:
        """Return from where on a text may be a call; its length where nothing can be one yet."""
        mark = self.opens.strip()
        if not mark:
            return 0 if text.lstrip().startswith("{") or not text.strip() else len(text)
        at = text.find(mark)
        if at >= 0:
            return at
        for length in range(min(len(mark) - 1, len(text)), 0, -1):
            if text.endswith(mark[:length]):
                return len(text) - length
        return len(text)

    def split(self, text: str) -> tuple[str, list[ToolCall]]:
        """Return what stands before the calls, and the calls; all of it where none is sound."""
        before, rest = text, text
        calls: list[ToolCall] = []
        while True:
            at = rest.find(self.opens.strip()) if self.opens else 0
            if at < 0:
                break
            inside = rest[at + len(self.opens.strip()) :]
            found, end = _json(inside)
            sound = [call for one in found if (call := self._call(one)) is not None]
            if not sound:
                break
            if not calls:
                before = rest[:at]
            calls += sound
            rest = inside[end:]
            if not self.opens:
                break
        return (before.rstrip(), calls) if calls else (text, [])

    def _call(self, found: Any) -> ToolCall | None:
        if not isinstance(found, dict) or not isinstance(found.get("name"), str):
            return None
        arguments = found.get(self.arguments, {})
        if not isinstance(arguments, dict):
            return None
        return ToolCall(
            id=f"call_{secrets.token_hex(12)}",
            name=found["name"],
            arguments=json.dumps(arguments, ensure_ascii=False),
        )


_HERMES = ToolFormat("<tool_call>\n", "\n</tool_call>")
_MISTRAL = ToolFormat("[TOOL_CALLS]", "", listed=True)
_LLAMA = ToolFormat("", "", arguments="parameters")


def format_of(template: str) -> ToolFormat | None:
    """Return how a model with this chat template calls tools; None where it is not told of any."""
    if "tools" not in template:
        return None
    if "<tool_call>" in template:
        return _HERMES  # Hermes, Qwen
    if "[TOOL_CALLS]" in template:
        return _MISTRAL
    if '"parameters"' in template or "<|python_tag|>" in template:
        return _LLAMA
    return None


def _json(text: str) -> tuple[list[Any], int]:
    """Return the JSON that a text begins with, a list's items one by one, and where it ends."""
    start = len(text) - len(text.lstrip())
    try:
        found, end = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return [], 0
    return (found if isinstance(found, list) else [found]), end


def _quoted(mark: str) -> str:
    return json.dumps(mark) if mark else ""
