"""Reads plain text, streamed; a message log in it is read as messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from luthier_dataset.readers.chat_log import looks_like_log, read_log
from luthier_dataset.readers.encoding import Line, encoding_of, lines_of
from luthier_dataset.readers.items import MAX_SECTION_BYTES, Item, Remark, hull
from luthier_dataset.readers.outline import Outline

_FIRST_LINES = 64
"""Lines by which a message log is told."""


def read_text(path: Path) -> Iterator[Item]:
    """Yield the paragraphs of a plain text as sections without headings; blank lines part them.

    Where most of the first lines are messages with a sender, the file is a log, and its messages
    are yielded. Ranges are of the file's own bytes. UnreadableDocument: it is no text.
    """
    encoding = encoding_of(path)
    lines = lines_of(path, encoding)
    first = list(islice(lines, _FIRST_LINES))
    if looks_like_log(line.text for line in first if isinstance(line, Line)):
        yield from read_log(lambda: lines_of(path, encoding))
    else:
        yield from _paragraphs(chain(first, lines))


def _paragraphs(lines: Iterable[Line | Remark]) -> Iterator[Item]:
    outline = Outline()
    paragraph: list[Line] = []
    size = 0
    remarks: list[Remark] = []
    for line in lines:
        if isinstance(line, Remark):
            remarks.append(line)
        elif line.text and not line.text.isspace():
            paragraph.append(line)
            size += len(line.text)
            if size >= MAX_SECTION_BYTES:
                _add(outline, paragraph)
                yield from outline.take()
                size = 0
        elif paragraph:
            _add(outline, paragraph)
            yield from outline.take()
            size = 0
    _add(outline, paragraph)
    yield from outline.finish()
    yield from remarks


def _add(outline: Outline, paragraph: list[Line]) -> None:
    """Move the lines of a paragraph into the outline."""
    outline.prose(" ".join(line.text for line in paragraph), hull(line.place for line in paragraph))
    paragraph.clear()
