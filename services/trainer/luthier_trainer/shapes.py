"""The shapes of training rows, told apart by their keys; a file has rows of one shape.

The dataset service defines them (its `rows`) and checks each row when a file is stored. Here it is
only seen what a file is for, so that a job which cannot use it ends before a run begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from luthier_common.errors import InvalidArgument


class Shape(StrEnum):
    """What tuning learns from."""

    CHAT = "chat"
    """`messages`, perhaps with `tools`: the assistant's messages are learned."""
    TEXT = "text"
    """`text`, learned whole."""
    PAIR = "pair"
    """`prompt` and `completion`: the completion is learned."""
    PREFERENCE = "preference"
    """`input`, `preferred_output` and `non_preferred_output`: which answer is better is learned."""


def shape_of(row: Mapping[str, Any]) -> Shape:
    """Return the shape of a row; InvalidArgument for one that has none."""
    if "messages" in row:
        return Shape.CHAT
    if "preferred_output" in row or "non_preferred_output" in row:
        return Shape.PREFERENCE
    if "completion" in row:
        return Shape.PAIR
    if "text" in row:
        return Shape.TEXT
    raise InvalidArgument(
        "has none of the known shapes: `messages`, `prompt` with `completion`, `text`, or `input` "
        "with `preferred_output` and `non_preferred_output`",
        reason="UNKNOWN_ROWS",
    )
