"""Invented words and numbers, and the rule that keeps some of them for others.

The starter must not know the facts of the documents that it is later tuned on. Every value
that the generator emits is therefore drawn from one half of a documented split:

* a word is *reserved* if ``crc32(word in lower case) % 8 == 0``;
* a whole number is *reserved* if ``number % 7 == 3`` (``08:45`` counts as 845).

The generator never emits a reserved word or number as a value, a company, a product or a place.
Documents under ``examples/`` use only reserved ones, so neither side has to import the other.
"""

import random
import re
import zlib
from collections.abc import Callable

_ONSETS = [*"bdfghklmnprstvz", "br", "dr", "gr", "kr", "pr", "tr", "st"]
_VOWELS = [*"aeiouaeo", "ei", "au"]
_MIDDLE_CODAS = ["", "", "", "l", "n", "r", "s", "m", "nd", "rk"]
_FINAL_CODAS = ["", "n", "r", "s", "l", "k", "x", "th", "m", "den", "vik", "ton"]
_SUFFIXES = [
    "Works", "Group", "Systems", "Foods", "Textiles",
    "Logistics", "Instruments", "Energy", "Paper", "Tools",
]  # fmt: skip
_DEPARTMENTS = [
    "Finance", "Legal", "Sales", "Support", "Research", "Design",
    "Transport", "Quality", "Marketing", "Security", "Training", "Purchasing",
]  # fmt: skip

_WORD_MODULUS = 8
_NUMBER_MODULUS = 7
_NUMBER_RESIDUE = 3


def is_reserved_word(word: str) -> bool:
    """Whether the generator may never emit this word."""
    return zlib.crc32(word.casefold().encode()) % _WORD_MODULUS == 0


def is_reserved_number(number: int) -> bool:
    """Whether the generator may never emit this number as a value."""
    return number % _NUMBER_MODULUS == _NUMBER_RESIDUE


def is_reserved_value(value: str) -> bool:
    """Whether a value has a reserved number or a reserved capitalised word.

    One such part is enough: the whole value can then never be emitted.
    """
    digits = re.sub(r"(\d):(\d)", r"\1\2", value)
    if any(is_reserved_number(int(run)) for run in re.findall(r"\d+", digits)):
        return True
    return any(is_reserved_word(word) for word in re.findall(r"[A-Z][a-z]+", value))


def word(rng: random.Random, *, reserved: bool = False) -> str:
    """Return an invented capitalised word of two syllables, seldom three."""
    while True:
        parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_MIDDLE_CODAS)]
        if rng.random() < 0.08:
            parts.append(rng.choice(_ONSETS) + rng.choice(_VOWELS))
        parts.append(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_FINAL_CODAS))
        candidate = "".join(parts).capitalize()
        if is_reserved_word(candidate) == reserved:
            return candidate


def number(rng: random.Random, low: int, high: int, step: int = 1) -> int:
    """Return a number that is not reserved, a multiple of `step` from `low` to `high`."""
    while True:
        candidate = rng.randrange(low, high + 1, step)
        if not is_reserved_number(candidate):
            return candidate


def company(rng: random.Random) -> str:
    """Return a company name: one invented word, half of the time with a trade."""
    name = word(rng)
    return f"{name} {rng.choice(_SUFFIXES)}" if rng.random() < 0.5 else name


def _counted(unit: str, low: int, high: int, step: int = 1) -> Callable[[random.Random], str]:
    return lambda rng: f"{number(rng, low, high, step)} {unit}"


def _time(rng: random.Random) -> str:
    while True:
        hour, minute = rng.randrange(6, 23), rng.randrange(0, 60, 5)
        if not is_reserved_number(hour * 100 + minute):
            return f"{hour:02d}:{minute:02d}"


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHKLMNPRSTVXZ") for _ in range(2))
    return f"{letters}-{number(rng, 100, 9999)}"


KINDS: dict[str, Callable[[random.Random], str]] = {
    "person": lambda rng: f"{word(rng)} {word(rng)}",
    "word": word,
    "square": lambda rng: f"{word(rng)} Square",
    "year": lambda rng: str(number(rng, 1901, 2039)),
    "time": _time,
    "code": _code,
    "extension": lambda rng: f"extension {number(rng, 100, 9999)}",
    "room": lambda rng: f"room {number(rng, 10, 999)}",
    "street": lambda rng: f"{number(rng, 2, 399)} {word(rng)} Street",
    "days": _counted("days", 2, 99),
    "hours": _counted("hours", 2, 99),
    "minutes": _counted("minutes", 2, 99),
    "weeks": _counted("weeks", 2, 60),
    "months": _counted("months", 2, 60),
    "years": _counted("years", 2, 30),
    "percent": _counted("percent", 2, 60),
    "crowns": _counted("crowns", 20, 9990),
    "people": _counted("people", 11, 9990),
    "spaces": _counted("spaces", 11, 990),
    "characters": _counted("characters", 8, 40),
    "grams": _counted("grams", 20, 9900),
    "kilometres": _counted("kilometres", 5, 990),
    "kilograms": _counted("kilograms", 2, 90),
}
"""How to draw a value of each kind."""

SUBJECTS: dict[str, Callable[[random.Random], str]] = {
    "department": lambda rng: rng.choice(_DEPARTMENTS),
    "site": word,
    "product": word,
}
"""How to draw the subject of a fact that is about a part of the company."""
