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
    Shape,
    Tools,
    chat_row,
    pair_row,
)
from luthier_dataset.rows import BadRow

NAME = "pairs"

_COLUMN = re.compile(r"\{([^\W\d][^{}\"':,;\n]*)\}")
"""A column in a template. Names of columns may have spaces; a brace of code or JSON is none."""
_LONGEST_LABEL = 64
"""Characters; longer outputs are texts."""


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each record that has the columns; each record is a group of its own.

    One that lacks a column, or has nothing to ask or to learn, is dropped and reported.
    """
    pairs = config.pairs
    for item in document.items():
        if not isinstance(item, Record):
            continue
        origin = Origin(document.file, item.heading_path, item.place)
        try:
            prompt, answer = _prompt_and_answer(pairs, item.fields)
        except BadRow as error:
            tools.malformed(error.rule, str(error), origin)
            continue
        if pairs.balance_labels and len(answer.strip()) > _LONGEST_LABEL:
            detail = (
                f"{pairs.output_field!r} is no label: it has more than {_LONGEST_LABEL} characters"
            )
            tools.malformed("label_too_long", detail, origin)
            continue
        yield _row(pairs, prompt, answer, origin, record_group(document, item))


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


def _row(pairs: PairsRecipe, prompt: str, answer: str, origin: Origin, group: str) -> Row:
    answered = answer.strip()
    label = answered if len(answered) <= _LONGEST_LABEL else ""
    if pairs.sequence_to_sequence:
        return pair_row(prompt, answer, origin, group=group, label=label)
    return chat_row(prompt, answer, origin, system=pairs.system, group=group, label=label)


def _prompt_and_answer(pairs: PairsRecipe, fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return the two sides of a record; BadRow if there are none."""
    names = [pairs.input_field, pairs.output_field, *_COLUMN.findall(pairs.template)]
    texts: dict[str, str] = {}
    for name in names:
        text = as_text(fields.get(name))
        if text is None:
            raise BadRow("missing_field", f"there is no value for {name!r}")
        texts[name] = text
    asked, answer = texts[pairs.input_field], texts[pairs.output_field]
    if not asked.strip():
        raise BadRow("empty_prompt", f"{pairs.input_field!r} is empty, so nothing is asked")
    if not answer.strip():
        raise BadRow("empty_answer", f"{pairs.output_field!r} is empty, so nothing is learned")
    if not pairs.template:
        return asked, answer
    return _COLUMN.sub(lambda match: texts[match[1]], pairs.template), answer


def _shape(config: Recipe) -> Shape:
    return Shape.PAIR if config.pairs.sequence_to_sequence else Shape.CHAT


KIND = Kind(make_rows, check, _shape, by_item=True, one_answer=True)
