"""The rows of a job's file: which of them can be learned, and a sample of those."""

from __future__ import annotations

import codecs
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.trainer.v1.preflight_pb2 import RefusedRow
from luthier_common.errors import InvalidArgument

from luthier_trainer.shapes import Shape, shape_of

SAMPLE_ROWS = 1_000
"""Rows that are tokenized: the mean length is then known to some percent."""
_MOST_SHOWN = 20

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Teaching:
    """What a job can learn from."""

    preference: bool
    encoder_decoder: bool
    has_chat_template: bool

    def check(self, row: Row) -> Shape:
        """Return the shape of a row; InvalidArgument for one that the job cannot learn from."""
        shape = shape_of(row)
        if self.preference and shape is not Shape.PREFERENCE:
            raise InvalidArgument(
                "is no preference row (`input`, `preferred_output`, `non_preferred_output`), which "
                "`method: dpo` learns from",
                reason="NO_PREFERENCE_ROWS",
            )
        if not self.preference and shape is Shape.PREFERENCE:
            raise InvalidArgument(
                "is a preference row, which preference tuning (`method: dpo`) learns from",
                reason="PREFERENCE_ROWS",
            )
        if self.encoder_decoder and shape is not Shape.PAIR:
            raise InvalidArgument(
                "is no pair of `prompt` and `completion`, and the base model is an "
                "encoder-decoder, which learns from pairs",
                reason="SEQ2SEQ_NEEDS_PAIRS",
            )
        if shape in (Shape.CHAT, Shape.PREFERENCE) and not self.has_chat_template:
            raise InvalidArgument(
                "is a conversation, and the base model has no chat template; give rows of `text`, "
                "or of `prompt` and `completion`",
                reason="CHAT_TEMPLATE_MISSING",
            )
        return shape


@dataclass
class Survey:
    """What was seen in a file."""

    accepted: int = 0
    refused: int = 0
    refused_rows: list[RefusedRow] = field(default_factory=list)
    """The first of them."""
    sample: list[Row] = field(default_factory=list)
    """Rows that can be learned; all of them, or so many drawn by chance."""


async def survey(
    lines: AsyncIterator[bytes], teaching: Teaching, *, where: str, request_field: str, seed: int
) -> Survey:
    """Read a file of rows, called `where` in errors; InvalidArgument when it is of no use.

    It is of none when its first row is of a shape that the job cannot learn, or no row is left.
    The sample is a function of rows and `seed` (reservoir sampling, Vitter 1985, algorithm R).
    """
    found, chance, number = Survey(), random.Random(seed), 0
    async for line in lines:
        number += 1
        if not line.strip():
            continue
        try:
            row = _parsed(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
            teaching.check(row)
        except InvalidArgument as error:
            if not found.accepted and not found.refused and error.reason != "MALFORMED_ROW":
                message = f"{where}: its first row {error.message}"
                raise InvalidArgument(message, reason=error.reason, field=request_field) from error
            found.refused += 1
            if len(found.refused_rows) < _MOST_SHOWN:
                found.refused_rows.append(RefusedRow(line=number, reason=error.message))
            continue
        found.accepted += 1
        if len(found.sample) < SAMPLE_ROWS:
            found.sample.append(row)
        elif (place := chance.randrange(found.accepted)) < SAMPLE_ROWS:
            found.sample[place] = row
    if not found.accepted:
        why = f": {found.refused_rows[0].reason}" if found.refused_rows else ""
        raise InvalidArgument(
            f"{where}: no row can be learned{why}", reason="NO_ROWS_TO_LEARN", field=request_field
        )
    return found


def _parsed(line: bytes) -> Row:
    """Return a row whose parts have the types that counting relies on; InvalidArgument."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _malformed("is not a JSON object")
    for key in ("text", "prompt", "completion"):
        if not isinstance(row.get(key, ""), str):
            raise _malformed(f"has a `{key}` that is not a string")
    if "completion" in row and "prompt" not in row:
        raise _malformed("has a `completion` without a `prompt`")
    for key in ("messages", "preferred_output", "non_preferred_output"):
        if key in row:
            _check_messages(row[key], key)
    if "preferred_output" in row or "non_preferred_output" in row:
        given = row.get("input")
        _check_messages(given.get("messages") if isinstance(given, dict) else None, "input")
        if not {"preferred_output", "non_preferred_output"} <= row.keys():
            raise _malformed("has only one of `preferred_output` and `non_preferred_output`")
    return row


def _check_messages(messages: object, key: str) -> None:
    if not isinstance(messages, list) or not messages:
        raise _malformed(f"has no messages in `{key}`")
    if not all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in messages):
        raise _malformed(f"has an entry of `{key}` that is not a message with a role")


def _malformed(what: str) -> InvalidArgument:
    return InvalidArgument(what, reason="MALFORMED_ROW")
