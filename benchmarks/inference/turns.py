"""Taking turns, and seeing that contenders write the same."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
MARGIN = 1e-3
"""Of two logits in float32: where the two best are closer, either token is right."""


def in_turns(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Let contenders work in turns, so many rounds after one that does not count."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            gc.collect()
            result = work()
            if number:
                found[name].append(result)
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each contender's rounds."""
    return {name: statistics.median(rounds) for name, rounds in found.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which at least this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


@dataclass(frozen=True)
class Written:
    """Tokens written greedily, and how far the likeliest was ahead of the next, in logits."""

    tokens: Sequence[object]
    margins: Sequence[float]


def agreeing(expected: Written, given: Sequence[object], what: str) -> int:
    """Return how many tokens are the same, up to where two were as likely.

    AssertionError where they differ although one was clearly likelier: figures of who writes
    something else are not worth comparing.
    """
    for place, (one, other) in enumerate(zip(expected.tokens, given, strict=True)):
        if one != other:
            if expected.margins[place] > MARGIN:
                raise AssertionError(
                    f"{what} writes {other!r} where {one!r} is ahead by "
                    f"{expected.margins[place]:.4f}, at token {place}"
                )
            return place
    return len(given)
