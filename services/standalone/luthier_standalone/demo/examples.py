"""The demo's material: a fictional company's documents and two examinations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from luthier_common.errors import FailedPrecondition

_CHECKOUT = Path(__file__).parents[4]

COMPANY = "Kresdor"
DOCUMENTS = ("handbook.docx", "policy.md")
READING_QUESTIONS = 320
"""Enough that one question more or less moves the figure by a third of a point."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the model is asked, and the answer that counts as right."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Examples:
    """The shipped material, read from disk."""

    documents: tuple[Path, ...]
    exam: tuple[Question, ...]
    """About facts of the documents, in phrasings that no training row uses."""
    reworded: tuple[Question, ...]
    """The same facts, asked for in other words than the documents use: the hardest phrasing."""
    reading: tuple[Question, ...]
    """About other companies; each brings the text that holds its answer."""


def load_examples(folder: Path = _CHECKOUT / "examples") -> Examples:
    """Read the material; FailedPrecondition outside a source checkout."""
    company = folder / COMPANY.lower()
    if not company.is_dir():
        raise FailedPrecondition(
            "the demo needs the folder examples/ of a source checkout", reason="NO_EXAMPLES"
        )
    reading = [
        # The form in which the starter model was taught to read.
        Question(f"Context: {row['context']}\nQuestion: {row['question']}", row["answer"])
        for row in _rows(folder / "reading.jsonl")[:READING_QUESTIONS]
    ]
    return Examples(
        documents=tuple(company / name for name in DOCUMENTS),
        exam=_questions(company / "exam.jsonl"),
        reworded=_questions(company / "reworded.jsonl"),
        reading=tuple(reading),
    )


def _questions(path: Path) -> tuple[Question, ...]:
    return tuple(Question(row["question"], row["answer"]) for row in _rows(path))


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
