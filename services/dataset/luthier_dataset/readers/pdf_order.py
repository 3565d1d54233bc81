"""The order in which the lines of a PDF page are read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from luthier_dataset.readers.pdf_lines import Line

_MOST_LINES = 300
"""Of a page whose lines are put in order; finding columns takes the square of it at worst."""
_MOST_ACROSS = 0.25
"""Share of the lines that may run across the gap between two columns, such as titles."""
_FEWEST_IN_COLUMN = 2


def in_reading_order(lines: Sequence[Line]) -> Sequence[Line]:
    """Return the lines of a page in reading order.

    The order in which the page draws them is right as a rule. Where a line stands above the one
    drawn before it, and not beside it, they are sorted anew, column by column.
    """
    for last, line in pairwise(lines):
        # Nearly every line stands below the last one, and that is quickly seen.
        if line.y <= last.y or line.y - last.y <= max(line.size, last.size):
            continue
        if line.x < last.right and last.x < line.right and line.turn == last.turn:
            return _sorted(lines) if len(lines) <= _MOST_LINES else lines
    return lines


def _sorted(lines: Sequence[Line]) -> list[Line]:
    downwards = sorted(lines, key=lambda line: (line.turn, -line.y, line.x))
    gap = _gap(lines)
    if gap is None:
        return downwards
    result: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []
    for line in downwards:
        if line.x >= gap:
            right.append(line)
        elif line.right <= gap:
            left.append(line)
        else:
            # A line across both columns ends them; below it new ones begin.
            result += [*_sorted(left), *_sorted(right), line]
            left, right = [], []
    return [*result, *_sorted(left), *_sorted(right)]


def _gap(lines: Sequence[Line]) -> float | None:
    """Return where the right one of two columns begins, None if there is one column."""
    best: tuple[int, float] | None = None
    for x in sorted({line.x for line in lines}):
        left = sum(line.right <= x and line.x < x for line in lines)
        right = sum(line.x >= x for line in lines)
        across = len(lines) - left - right
        if min(left, right) >= _FEWEST_IN_COLUMN and across <= _MOST_ACROSS * len(lines):
            best = min(best or (across, x), (across, x))
    return best[1] if best else None
