"""The kinds of documents that can be read. Kept apart so that choosing one loads no parser."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePath

UNREADABLE = 3
"""Exit status of the child: the output file says why the document cannot be read."""


class Kind(StrEnum):
    """A kind of document."""

    WORD = "word"
    MARKDOWN = "markdown"
    TEXT = "text"


_SUFFIXES = {
    ".docx": Kind.WORD,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".txt": Kind.TEXT,
}
SUPPORTED = ", ".join(sorted(_SUFFIXES))
"""The supported suffixes, for messages."""


def kind_of(display_name: str) -> Kind | None:
    """Return the kind a file claims to be, by its name; None if there is no reader for it."""
    return _SUFFIXES.get(PurePath(display_name).suffix.lower())
