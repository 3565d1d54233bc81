"""What a recipe is given and what it makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from luthier_dataset.normal import normal_form
from luthier_dataset.rows import ChatMessage

DUPLICATE = "duplicate"
CONFLICTING = "conflicting_answers"


@dataclass(frozen=True)
class Row:
    """One training row and where it comes from."""

    prompt: str
    answer: str
    recipe: str
    source_file: str
    heading_path: tuple[str, ...]

    def messages(self) -> list[ChatMessage]:
        """Return the conversation that is trained on."""
        return [
            {"role": "user", "content": self.prompt},
            {"role": "assistant", "content": self.answer},
        ]


@dataclass
class Harvest:
    """The rows of a recipe, in order, and those that were not kept, counted by reason."""

    rows: list[Row] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def take(self, other: Harvest) -> None:
        """Add another harvest behind this one."""
        self.rows += other.rows
        self.dropped += other.dropped


@dataclass(frozen=True)
class Reply:
    """What the model wrote."""

    text: str
    complete: bool
    """False if it stopped for its length."""


class Model(Protocol):
    """The dataset's base model, asked greedily."""

    async def ask(self, prompt: str) -> Reply:
        """Return the answer, however long the model is away; InvalidArgument if it refuses."""
        ...


@dataclass(frozen=True)
class Tools:
    """What recipes may use."""

    count_tokens: Callable[[str], int]
    model: Model
    progress: Callable[[int, int], Awaitable[None]]
    """Told steps done and steps in all; cheap to call for each step."""


def without_conflicts(rows: Iterable[Row]) -> Harvest:
    """Keep one row for each prompt; where rows answer one prompt differently, keep none.

    Prompts and answers are compared by their normal form; nothing says which of two
    contradicting answers is right, so teaching either would be a guess.
    """
    rows = list(rows)
    answers: dict[str, set[str]] = {}
    for row in rows:
        answers.setdefault(normal_form(row.prompt), set()).add(normal_form(row.answer))
    result = Harvest()
    seen: set[str] = set()
    for row in rows:
        prompt = normal_form(row.prompt)
        if len(answers[prompt]) > 1:
            result.dropped[CONFLICTING] += 1
        elif prompt in seen:
            result.dropped[DUPLICATE] += 1
        else:
            seen.add(prompt)
            result.rows.append(row)
    return result
