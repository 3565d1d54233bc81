"""Tokens of rows as a run counts them (`run.rows`): tokenizer and chat template, without torch.

A conversation that the template refuses is counted as the bare texts of its messages: this is an
estimate, the run says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthier_common.model_text import ModelText

from luthier_trainer.shapes import Shape

_Message = Mapping[str, Any]


class TokenCounter:
    """The tokenizer and chat template of one base model."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files` as of `ModelText`, whose errors it raises."""
        self._text = ModelText(files)

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be read."""
        return self._text.has_template

    def lengths(self, shape: Shape, row: Mapping[str, Any], *, sides: bool = False) -> list[int]:
        """Return the tokens of each sequence of a row: both answers of a preference.

        `sides` counts the two sides of a pair apart, as an encoder-decoder reads them.
        """
        match shape:
            case Shape.CHAT:
                return [self._chat(row["messages"], row.get("tools"))]
            case Shape.TEXT:
                return [self._count(self._closed(row["text"]))]
            case Shape.PAIR if sides:
                return [self._count(row[side]) for side in ("prompt", "completion")]
            case Shape.PAIR:
                return [self._count(self._closed(row["prompt"] + row["completion"]))]
            case Shape.PREFERENCE:
                read = row["input"]
                return [
                    self._chat([*read["messages"], *row[answer]], read.get("tools"))
                    for answer in ("preferred_output", "non_preferred_output")
                ]

    def _chat(self, messages: Sequence[_Message], tools: Any) -> int:
        given = [_for_template(message) for message in messages]
        try:
            text = self._text.render(given, tools, answer=False)
            return self._count(text, special=False)
        except Exception:  # there is none, or it refuses: foreign code raises whatever it likes
            pass
        return sum(self._count(str(message.get("content", "")), special=False) for message in given)

    def _count(self, text: str, *, special: bool = True) -> int:
        return len(self._text.tokens(text, special=special))

    def _closed(self, text: str) -> str:
        end = self._text.special.get("eos_token", "")
        return text if text.endswith(end) else text + end


def _for_template(message: _Message) -> dict[str, Any]:
    """Return a message of OpenAI's form as chat templates are written for; see `run.rows`."""
    given = {key: value for key, value in message.items() if value not in (None, [])}
    if given.get("role") == "developer":
        given["role"] = "system"
    if "tool_calls" in given:
        given["tool_calls"] = [_call(call) for call in given["tool_calls"]]
    return given


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = call["function"].get("arguments") or "{}"
    read = json.loads(arguments) if isinstance(arguments, str) else arguments
    return {**call, "function": {**call["function"], "arguments": read}}
