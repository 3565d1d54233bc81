"""An outline of a document that is no text itself: it counts where each block stands.

Byte ranges refer to the text read: its headings and blocks in reading order, each followed by one
line feed, in UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from luthier_dataset.readers.items import BlockKind, Place, Section
from luthier_dataset.readers.outline import Outline, one_line, utf8_size


class Transcript:
    """Takes headings and blocks in reading order and gives sections whose blocks know their place.

    `page`, `last_page` and `line` are those of `Place`.
    """

    def __init__(self) -> None:
        self._outline = Outline()
        self._end = 0

    def heading(self, level: int, text: str) -> None:
        """Open a section; level 0 is a title, deeper ones are larger."""
        self._place(one_line(text))
        self._outline.heading(level, text)

    def prose(
        self,
        text: str,
        page: int = 0,
        *,
        last_page: int = 0,
        line: int = 0,
        bullet: bool = False,
    ) -> None:
        """Add a paragraph or a list item."""
        text = one_line(text)
        kind = BlockKind.BULLET if bullet else BlockKind.PARAGRAPH
        self._outline.add(kind, text, self._place(text, page, last_page, line))

    def table_row(self, cells: Iterable[str], page: int = 0, *, line: int = 0) -> None:
        """Add a row of a table, as `a | b`."""
        text = " | ".join(filter(None, map(one_line, cells)))
        self._outline.add(BlockKind.TABLE_ROW, text, self._place(text, page, line=line))

    def verbatim(self, text: str) -> None:
        """Add text whose lines matter, such as code."""
        text = text.rstrip() if text.strip() else ""
        self._outline.add(BlockKind.VERBATIM, text, self._place(text))

    def take(self) -> Iterator[Section]:
        """Return the sections that are closed by now, once."""
        return self._outline.take()

    def finish(self) -> Iterator[Section]:
        """Close the last section and return what is left."""
        return self._outline.finish()

    def _place(self, text: str, page: int = 0, last_page: int = 0, line: int = 0) -> Place:
        start, size = self._end, utf8_size(text)
        self._end += size + 1 if size else 0
        return Place(
            page=page,
            last_page=last_page or page,
            line=line,
            last_line=line,
            start=start,
            end=start + size,
        )
