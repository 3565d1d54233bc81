"""Recipe `pairs`: columns of a table mapped to prompt and answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from luthier.dataset.v1.recipe_pb2 import PairsRecipe, Recipe

from luthier_dataset.readers.items import Record
from luthier_dataset.recipes.recipe import (
    Document,
    Kind,
    Origin,
    Row,
    Tools,
    chat_row,
    pair_row,
)

NAME = "pairs"
MISSING_FIELD = "missing_field"
EMPTY_PROMPT = "empty_prompt"
EMPTY_ANSWER = "empty_answer"

_COLUMN = re.compile(r"\{([^\W\d][^{}\"':,;\n]*)\}")
"""A column in a template. Names of columns may have spaces; a brace of code or JSON is none."""


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each record that has the columns; each record is a group of its own."""
    pairs = config.pairs
    for item in document.items():
        if not isinstance(item, Record):
            continue
        asked, answer = (
            as_text(item.fields.get(name)) for name in (pairs.input_field, pairs.output_field)
        )
        prompt = _prompt(pairs, item.fields)
        if asked is None or prompt is None or answer is None:
            tools.drop(MISSING_FIELD)
        elif not asked.strip():
            tools.drop(EMPTY_PROMPT)
        elif not answer.strip():
            tools.drop(EMPTY_ANSWER)
        else:
            yield _row(pairs, prompt, answer, document, item)


def check(config: Recipe) -> None:
    """Refuse a configuration without its columns, or with a template that holds none."""
    pairs = config.pairs
    for field in ("input_field", "output_field"):
        if not getattr(pairs, field):
            raise ValueError(f"{field}: is missing")
    if pairs.input_field == pairs.output_field:
        raise ValueError("output_field: is the column of the input")
    if pairs.template and not _COLUMN.search(pairs.template):
        raise ValueError("template: holds no column, such as {" + pairs.input_field + "}")
    if pairs.system and pairs.sequence_to_sequence:
        raise ValueError("system: has no place in a row for sequence-to-sequence models")


def record_group(document: Document, record: Record) -> str:
    """Return the group of a record alone, so that a split may pass through its document."""
    place = record.place
    return f"{document.sha256}:{place.member}:{place.page}:{place.line}:{place.start}"


def as_text(value: Any) -> str | None:
    """Return a value of a record as text, as JSON where it is none; None stays."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _row(pairs: PairsRecipe, prompt: str, answer: str, document: Document, item: Record) -> Row:
    origin = Origin(document.file, item.heading_path, item.place)
    label = answer.strip() if pairs.balance_labels else ""
    group = record_group(document, item)
    if pairs.sequence_to_sequence:
        return pair_row(prompt, answer, origin, group=group, label=label)
    return chat_row(prompt, answer, origin, system=pairs.system, group=group, label=label)


def _prompt(pairs: PairsRecipe, fields: Mapping[str, Any]) -> str | None:
    """The prompt of a record; None if it lacks a column."""
    prompt = as_text(fields.get(pairs.input_field))
    if prompt is None or not pairs.template:
        return prompt
    texts = {name: as_text(fields.get(name)) for name in _COLUMN.findall(pairs.template)}
    if None in texts.values():
        return None
    return _COLUMN.sub(lambda match: texts[match[1]] or "", pairs.template)


KIND = Kind(make_rows, check, by_item=True, one_answer=True)
