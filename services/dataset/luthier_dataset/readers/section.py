"""What a reader makes of a document, and how it crosses the process boundary."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from luthier_dataset.sentences import split_sentences


@dataclass(frozen=True)
class Section:
    """The text between two headings."""

    heading_path: tuple[str, ...]
    """Headings above the text, outermost first; empty before the first heading."""
    text: str
    """Paragraphs, list items and table rows, one a line."""
    statements: tuple[str, ...]
    """The sentences of the text, in order, for recipes that work by statement."""


class UnreadableDocument(Exception):
    """The document is not what it claims to be; the message is fit for its owner."""


class Outline:
    """Collects the blocks of a document under the headings that stand above them."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._statements: list[str] = []
        self._sections: list[Section] = []

    def heading(self, level: int, text: str) -> None:
        """Open a section; level 0 is a title, deeper ones are larger."""
        self._close()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if title := _one_line(text):
            self._path.append((level, title))

    def prose(self, text: str, *, bullet: bool = False) -> None:
        """Add a paragraph or a list item."""
        if line := _one_line(text):
            self._lines.append(f"- {line}" if bullet else line)
            self._statements.extend(split_sentences(line))

    def table_row(self, cells: Iterable[str]) -> None:
        """Add a row of a table: `a | b`; it counts as one statement."""
        line = " | ".join(filter(None, map(_one_line, cells)))
        if line:
            self._lines.append(line)
            self._statements.append(line)

    def verbatim(self, text: str) -> None:
        """Add text whose lines matter, such as code; it holds no statements."""
        if text.strip():
            self._lines.append(text.rstrip())

    def sections(self) -> list[Section]:
        """Close the last section and return all that hold text."""
        self._close()
        return self._sections

    def _close(self) -> None:
        if self._lines:
            path = tuple(title for _, title in self._path)
            text = "\n".join(self._lines)
            self._sections.append(Section(path, text, tuple(self._statements)))
        self._lines, self._statements = [], []


def _one_line(text: str) -> str:
    return " ".join(text.split())


def dump(sections: Iterable[Section]) -> bytes:
    """Return sections as JSON."""
    return json.dumps([asdict(section) for section in sections], ensure_ascii=False).encode()


def load(data: bytes) -> list[Section]:
    """Return the sections that `dump` wrote."""
    found: list[dict[str, Any]] = json.loads(data)
    return [
        Section(tuple(item["heading_path"]), item["text"], tuple(item["statements"]))
        for item in found
    ]
