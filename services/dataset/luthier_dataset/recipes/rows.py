"""Recipe `rows`: records that are training rows already, in the formats in common use.

Recognised by their fields, the first that fits: OpenAI's chat (`messages`) and preference rows
(`preferred_output`), ShareGPT (`conversations`), Alpaca (`instruction`, `input`, `output`), the
pairs `prompt` and `completion` (OpenAI's), `text` and `expected`, `dialogue` and `summary`, and
`text`. In tables whose cells are texts, lists and objects stand as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.readers.items import Record
from luthier_dataset.recipes.pairs import as_text, record_group
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Tools
from luthier_dataset.rows import BadRow, check_row

NAME = "rows"
_PAIRS = (("prompt", "completion"), ("text", "expected"), ("dialogue", "summary"))
_TALK_KEYS = ("tools", "parallel_tool_calls", "functions")
_SHAREGPT_ROLES = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot"), "assistant"),
}


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield the row that each record is; one that breaks a rule is dropped under the rule's name.

    Each record is a group of its own.
    """
    for item in document.items():
        if not isinstance(item, Record):
            continue
        origin = Origin(document.file, item.heading_path, item.place)
        try:
            body = _body(item.fields, as_pair=config.rows.sequence_to_sequence)
            shape = check_row(body)
        except BadRow as error:
            tools.malformed(error.rule, str(error), origin)
        else:
            yield Row(shape, body, (origin,), record_group(document, item))


def _body(fields: Mapping[str, Any], *, as_pair: bool) -> dict[str, Any]:
    """The body of the row that a record means to be."""
    if "messages" in fields:
        return _talk(fields)
    if "preferred_output" in fields:
        outputs = ("preferred_output", "non_preferred_output")
        given = _parsed(fields.get("input"))
        return {
            "input": _talk(given) if isinstance(given, dict) else given,
            **{key: _messages(fields.get(key)) for key in outputs},
        }
    if "conversations" in fields:
        return {"messages": _sharegpt(fields)}
    if pair := _pair(fields):
        prompt, answer = pair
        if not prompt.strip():
            raise BadRow("empty_prompt", "the prompt is empty")
        if as_pair:
            return {"prompt": prompt, "completion": answer}
        return {"messages": [_message("user", prompt), _message("assistant", answer)]}
    # Only a text is left, or a format that nobody knows, which the check says.
    return {"text": fields["text"]} if "text" in fields else {}


def _pair(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    if {"instruction", "output"} <= fields.keys():
        parts = (as_text(fields.get(name)) for name in ("instruction", "input"))
        return "\n\n".join(part for part in parts if part), as_text(fields["output"]) or ""
    for prompt, answer in _PAIRS:
        if {prompt, answer} <= fields.keys():
            return as_text(fields[prompt]) or "", as_text(fields[answer]) or ""
    return None


def _talk(fields: Mapping[str, Any]) -> dict[str, Any]:
    optional = {
        key: _parsed(fields[key]) for key in _TALK_KEYS if fields.get(key) not in (None, "")
    }
    return {"messages": _messages(fields.get("messages")), **optional}


def _messages(value: Any) -> Any:
    """Messages without the keys that have no value: in Parquet each has the keys of all."""
    messages = _parsed(value)
    if not isinstance(messages, list):
        return messages
    return [
        {key: one for key, one in message.items() if one is not None}
        if isinstance(message, dict)
        else message
        for message in messages
    ]


def _sharegpt(fields: Mapping[str, Any]) -> Any:
    turns = _parsed(fields["conversations"])
    if not isinstance(turns, list):
        return turns
    system = fields.get("system")
    messages = [_message("system", system)] if system else []
    for turn in turns:
        if not isinstance(turn, dict):
            return turns
        # A sender that is not known stays, so that the check names it.
        sender = turn.get("from")
        messages.append(_message(_SHAREGPT_ROLES.get(str(sender), sender), turn.get("value")))
    return messages


def _message(role: Any, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


KIND = Kind(make_rows, shape=lambda config: None, by_item=True)
