"""The lines that a step's rows share: what a run makes (`run.data`) and preflight counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters

_MULTIPLE = 32
"""Lines are this many tokens long, or a multiple: new shapes cost time on a CPU."""
_LEAST = 128
MOST = 1024
"""A line is only longer where a row is: enough to fill lines well, little enough for a pass."""


class Lines(NamedTuple):
    """How rows are laid out."""

    length: int
    """Tokens of each line."""
    rows: list[list[int]]
    """Of each line, the numbers of its rows."""


def most_tokens(chosen: ResolvedHyperparameters) -> int:
    """Return how long lines may be; short where a forward pass is to have only some of them."""
    return _LEAST if chosen.micro_batch_size else MOST


def packed(lengths: Sequence[int], most: int = MOST) -> Lines:
    """Return lines of about `most` tokens that hold rows whole, with little padding.

    How many follows from the tokens; rows are filled in first fit, longest first, at the least
    length at which they fit into so many.
    """
    longest = max(lengths)
    count = max(1, round(sum(lengths) / max(longest, most)))
    length = rounded(max(longest, _LEAST, math.ceil(sum(lengths) / count)))
    while len(lines := _first_fit(lengths, length)) > count:
        length += _MULTIPLE
    return Lines(length, lines)


def alone(lengths: Sequence[int]) -> Lines:
    """Return lines of one row each."""
    return Lines(rounded(max(_LEAST, *lengths)), [[number] for number in range(len(lengths))])


def rounded(length: int, multiple: int = _MULTIPLE) -> int:
    """Return the next multiple."""
    return math.ceil(length / multiple) * multiple


def _first_fit(lengths: Sequence[int], length: int) -> list[list[int]]:
    lines: list[list[int]] = []
    free: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        for number, room in enumerate(free):
            if lengths[row] <= room:
                lines[number].append(row)
                free[number] -= lengths[row]
                break
        else:
            lines.append([row])
            free.append(length - lengths[row])
    return lines
