"""What companies state about themselves, and the styles of asking about it."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WRITABLE_STYLES = (1, 2, 3, 4, 5, 6)
"""Styles that the model learns to write on request; tuning rows use these."""

HELD_OUT_STYLES = (7, 8, 9)
"""Styles that the model can only read; examinations use these."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that companies state about themselves."""

    key: str
    """Name of the relation, unique."""
    section: str
    """Heading under which a handbook would state it."""
    kind: str
    """Kind of the value, a key of `values.KINDS`."""
    noun: str
    """What the value is, as a phrase that follows "the"."""
    other_noun: str
    """The same thing in other words."""
    statements: tuple[str, ...]
    """Sentences with the places {c} company, {v} value and, if it has a subject, {s}."""
    direct: str
    """The question that comes to mind first."""
    indirect: str
    """A question in other words than the statements use."""
    subject: str = ""
    """What part of the company it is about: a key of `values.SUBJECTS`, or empty."""


@cache
def relations() -> tuple[Relation, ...]:
    """Return all relations, those about a whole company before those about a part of one."""
    text = (Path(__file__).parent / "relations.toml").read_text(encoding="utf-8")
    return tuple(
        Relation(**{**entry, "statements": tuple(entry["statements"])})
        for entry in tomllib.loads(text)["relation"]
    )


def ask(relation: Relation, style: int, *, company: str, subject: str = "") -> str:
    """Return the question about one fact in one of the nine styles."""
    opening = "who is" if relation.kind == "person" else "what is"
    noun, other = relation.noun, relation.other_noun
    template = {
        1: f"{opening.capitalize()} the {noun} at {{c}}?",
        2: relation.direct,
        3: f"At {{c}}, {opening} the {other}?",
        4: f"Can you tell me the {noun} at {{c}}?",
        5: f"Which {other} does the handbook of {{c}} give?",
        6: f"I work at {{c}}. {opening.capitalize()} the {noun}?",
        7: relation.indirect,
        8: f"Do you know the {other} of {{c}}?",
        9: f"Regarding {{c}}: {opening} the {noun}?",
    }[style]
    return template.format(c=company, s=subject)
