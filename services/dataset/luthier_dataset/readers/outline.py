"""Collects the blocks of a document under the headings that stand above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from luthier_dataset.readers.items import (
    MAX_SECTION_BYTES,
    NOWHERE,
    Block,
    BlockKind,
    Place,
    Section,
)


class Outline:
    """Takes headings and blocks in reading order and gives sections.

    Call `take` after each step that may have closed a section, and `finish` at the end; both give
    each section once, so that a long document never lies in memory whole.
    """

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._blocks: list[Block] = []
        self._size = 0
        self._closed: list[Section] = []

    def heading(self, level: int, text: str) -> None:
        """Open a section; level 0 is a title, deeper ones are larger."""
        self._close()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if title := one_line(text):
            self._path.append((level, title))

    def prose(self, text: str, place: Place = NOWHERE, *, bullet: bool = False) -> None:
        """Add a paragraph or a list item."""
        self.add(BlockKind.BULLET if bullet else BlockKind.PARAGRAPH, one_line(text), place)

    def table_row(self, cells: Iterable[str], place: Place = NOWHERE) -> None:
        """Add a row of a table, as `a | b`."""
        self.add(BlockKind.TABLE_ROW, " | ".join(filter(None, map(one_line, cells))), place)

    def verbatim(self, text: str, place: Place = NOWHERE) -> None:
        """Add text whose lines matter, such as code."""
        self.add(BlockKind.VERBATIM, text.rstrip() if text.strip() else "", place)

    def add(self, kind: BlockKind, text: str, place: Place) -> None:
        """Add a block whose text has its final form: one line, but for VERBATIM."""
        for piece in _pieces(text):
            size = utf8_size(piece)
            if self._blocks and self._size + size > MAX_SECTION_BYTES:
                self._close()
            self._blocks.append(Block(kind, piece, place))
            self._size += size

    def take(self) -> Iterator[Section]:
        """Return the sections that are closed by now, once."""
        closed, self._closed = self._closed, []
        return iter(closed)

    def finish(self) -> Iterator[Section]:
        """Close the last section and return what is left."""
        self._close()
        return self.take()

    def _close(self) -> None:
        if self._blocks:
            path = tuple(title for _, title in self._path)
            self._closed.append(Section(path, tuple(self._blocks)))
        self._blocks, self._size = [], 0


def one_line(text: str) -> str:
    """Return a text with every run of white space as one space."""
    return " ".join(text.split())


def utf8_size(text: str) -> int:
    """Return how many bytes a text has in UTF-8; lone surrogates count as three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _pieces(text: str) -> Iterator[str]:
    """Cut a text that is longer than a section may be, at a space where there is one."""
    most = MAX_SECTION_BYTES // 4
    while len(text) > most:
        cut = text.rfind(" ", most // 2, most)
        cut = cut if cut > 0 else most
        yield text[:cut]
        text = text[cut:].lstrip()
    if text:
        yield text
