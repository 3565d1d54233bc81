"""Races: contestants do the same work in turns, so that a busy machine slows each alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Contestant = Callable[[], float]
"""Does its work once and returns how much that was, in units of the race."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    pdf_documents: int
    pdf_pages: int
    """Of each document."""
    markitdown_pages: int
    near_texts: int
    chunked_bytes: int
    rows_bytes: int
    small_corpus: int
    """Bytes."""
    large_corpus: int
    """Bytes."""
    largest_document: int
    """Bytes."""


FULL = Scale(
    rounds=5,
    pdf_documents=4,
    pdf_pages=240,
    markitdown_pages=24,
    near_texts=8_000,
    chunked_bytes=1_000_000,
    rows_bytes=40_000_000,
    small_corpus=100_000_000,
    large_corpus=1_000_000_000,
    largest_document=20_000_000,
)
QUICK = Scale(
    rounds=2,
    pdf_documents=2,
    pdf_pages=40,
    markitdown_pages=4,
    near_texts=1_000,
    chunked_bytes=200_000,
    rows_bytes=2_000_000,
    small_corpus=10_000_000,
    large_corpus=50_000_000,
    largest_document=4_000_000,
)


@dataclass(frozen=True)
class Outcome:
    """One figure beside its goal."""

    what: str
    ours: str
    theirs: str
    """What it is compared with."""
    measured: float
    goal: float
    unit: str = "x"
    at_most: bool = False
    """The goal is the most, not the least."""

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal


@dataclass(frozen=True)
class Measurement:
    """What one part of the benchmark found."""

    outcomes: list[Outcome]
    notes: list[str] = field(default_factory=list)
    """For people, beside the outcomes."""
    details: dict[str, Any] = field(default_factory=dict)
    """For programs: every round."""


@dataclass(frozen=True)
class Race:
    """The speeds of contestants, one of each round, in units a second."""

    unit: str
    speeds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Return the median speed of a contestant."""
        return statistics.median(self.speeds[name])

    def outcome(self, what: str, ours: str, theirs: str, goal: float) -> Outcome:
        """Return how much faster one contestant is than another."""
        return Outcome(
            what, self.shown(ours), f"{theirs} {self.shown(theirs)}",
            self.median(ours) / self.median(theirs), goal,
        )  # fmt: skip

    def shown(self, name: str) -> str:
        """Return the median speed of a contestant, for people."""
        speed = self.median(name)
        return f"{speed:,.0f} {self.unit}/s" if speed >= 100 else f"{speed:.3g} {self.unit}/s"

    def details(self) -> dict[str, Any]:
        """Return every speed, for programs."""
        return {"unit": f"{self.unit}/s", "speeds": dict(self.speeds)}


def race(unit: str, contestants: Mapping[str, Contestant], rounds: int) -> Race:
    """Let contestants work in turns, so many rounds after one that does not count."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            gc.collect()
            start = time.perf_counter()
            done = work()
            if number:
                speeds[name].append(done / (time.perf_counter() - start))
    return Race(unit, speeds)
