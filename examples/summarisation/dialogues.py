"""Messages between two people, and what they come to in a sentence: drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

PROMPT = "Summarize the following conversation.\n\n{dialogue}\n\nSummary: "
"""What the FLAN-T5 walk-through asks."""

_NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Irene", "Jack", "Kate",
    "Leo", "Maria", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SLOTS = {
    "day": _DAYS,
    "meal": ("breakfast", "lunch", "dinner", "coffee", "a drink", "a walk"),
    "place": ("the station", "the office", "the library", "the park", "the museum", "the gym"),
    "thing": ("the charger", "the blue folder", "the umbrella", "the keys", "the tent", "the bike"),
    "event": ("the concert", "the meeting", "the party", "the class", "the match", "the picnic"),
    "reason": ("a cold", "a late shift", "a dentist appointment", "visitors", "an exam"),
    "shop": ("the market", "the mall", "the corner shop", "the bakery", "an online shop"),
    "goods": ("a new phone", "running shoes", "a used car", "a winter coat", "two lamps"),
}


@dataclass(frozen=True, slots=True)
class _Subject:
    """What two people, `a` and `b`, write to each other about; braces hold names and slots."""

    messages: tuple[str, ...]
    """`a` begins, and they take turns."""
    summary: str
    report: str


_SUBJECTS = (
    _Subject(
        (
            "Hi {b}, do you have time for {meal} on {day}?",
            "Sure! Where shall we meet?",
            "In front of {place}.",
            "Good, see you there.",
        ),
        "{a} and {b} will meet for {meal} on {day} in front of {place}.",
        "{a} asks {b} to meet for {meal} on {day} in front of {place}.",
    ),
    _Subject(
        (
            "{b}, have you seen {thing}?",
            "You left it at {place}.",
            "Oh no. Could you bring it on {day}?",
            "No problem.",
        ),
        "{a} left {thing} at {place} and {b} will bring it on {day}.",
        "{a} asks {b} about {thing} from {place} on {day}.",
    ),
    _Subject(
        (
            "I am sorry, I cannot come to {event} on {day}.",
            "What happened?",
            "It is because of {reason}.",
            "That is a pity. I will tell the others.",
        ),
        "{a} cannot come to {event} on {day} because of {reason} and {b} will tell the others.",
        "{a} tells {b} about {event} on {day} and {reason}.",
    ),
    _Subject(
        (
            "Guess what, I bought {goods} yesterday.",
            "Nice! Where did you find that?",
            "At {shop}. Come with me on {day} if you like.",
            "I would love to.",
        ),
        "{a} bought {goods} at {shop} and {b} will come there on {day}.",
        "{a} tells {b} about {goods} from {shop} and asks {b} to come on {day}.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, and two ways to put it shortly."""

    dialogue: str
    """A message a line, the writer's name before it."""
    summary: str
    """One sentence: what tuning teaches."""
    report: str
    """The same in other words: what the example's small base model was trained to write."""

    @property
    def prompt(self) -> str:
        """The question that a summary answers."""
        return PROMPT.format(dialogue=self.dialogue)


def conversations(seed: int) -> Iterator[Conversation]:
    """Yield conversations without end; the same seed gives the same ones."""
    rng = random.Random(seed)
    while True:
        subject = rng.choice(_SUBJECTS)
        a, b = rng.sample(_NAMES, 2)
        drawn = {slot: rng.choice(values) for slot, values in _SLOTS.items()} | {"a": a, "b": b}
        messages = (message.format(**drawn) for message in subject.messages)
        lines = (f"{(a, b)[turn % 2]}: {message}" for turn, message in enumerate(messages))
        yield Conversation(
            "\n".join(lines), subject.summary.format(**drawn), subject.report.format(**drawn)
        )
