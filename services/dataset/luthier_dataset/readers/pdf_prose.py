"""Puts the lines of a PDF together to headings, paragraphs, list items and rows of tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from luthier_dataset.readers.items import Section
from luthier_dataset.readers.pdf_layout import Layout, plain
from luthier_dataset.readers.pdf_lines import Line
from luthier_dataset.readers.transcript import Transcript

_BULLET = re.compile(r"[•‣\u2043◦▪▫●○■□◆➢➤✓✔·\uf0a7\uf0b7\uf0d8\u2013\u2014*-]\s+(?=\S)")
"""Dashes and the private characters of symbol fonts included."""
_NUMBERED = re.compile(r"\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]\s+\S")
_ENDS = (".", "!", "?", ":", ";", "…")
_CLOSING = "\"'”\u2019»)] "
_NO_HEADING = re.compile(r"[.,;]$")
_LEADER = re.compile(r"(?:\s?\.){5,}\s?")
"""The dots between a title and its page number in a table of contents."""
_LONGEST_HEADING = 200
_MOST_HEADING_LINES = 4
_MOST_BOLD_LINES = 2
_MOST_LINES = 500
"""Of a paragraph: whatever a document claims, it does not lie in memory whole."""
_LOOSE = 1.3
"""A step down the page, against the usual one, that parts paragraphs."""
_ALIKE = 0.75
"""Smallest against largest type inside of a paragraph."""
_HALF_EMPTY = 0.5
"""Share of a line left empty from which on it ends a paragraph, whatever follows."""
_LOOSE_HEADING = 1.7
"""The same between the lines of one heading, in type sizes."""


class Prose:
    """Takes the lines of a document, page by page, and gives its sections."""

    def __init__(self, layout: Layout, bookmarks: Mapping[int, Mapping[str, int]]) -> None:
        """`bookmarks`: outline levels of the `plain` titles, by page."""
        self._layout = layout
        self._bookmarks = bookmarks
        self._transcript = Transcript()
        self._lines: list[Line] = []
        self._level: int | None = None
        self._page = self._last_page = 0

    def add_page(self, page: int, lines: Sequence[Line]) -> Iterator[Section]:
        """Add the lines of a page in reading order; yield the sections that end there."""
        marked = _find_titles(lines, self._bookmarks.get(page, {}))
        rest = 0
        for number, line in enumerate(lines):
            if rest:
                rest -= 1
            elif number in marked:
                level, count = marked[number]
                self._flush()
                self._transcript.heading(level, _joined(lines[number : number + count]))
                rest = count - 1
            else:
                self._add(page, line)
        yield from self._transcript.take()

    def finish(self) -> Iterator[Section]:
        """Yield the sections that are left."""
        self._flush()
        yield from self._transcript.finish()

    def _add(self, page: int, line: Line) -> None:
        if line.cells:
            self._flush()
            self._transcript.table_row(line.cells, page)
            return
        # The first question is much faster than the second.
        bullet = not line.text[:1].isalnum() and _BULLET.match(line.text) is not None
        level = None if bullet else self._layout.level(line)
        if level is not None and _LEADER.search(line.text):
            level = None
        if bullet or not self._goes_on(page, line, level):
            self._flush()
            self._level, self._page = level, page
        self._lines.append(line)
        self._last_page = page

    def _goes_on(self, page: int, line: Line, level: int | None) -> bool:
        """Whether a line belongs to the heading or paragraph before it."""
        if not self._lines or len(self._lines) == _MOST_LINES:
            return False
        last = self._lines[-1]
        if (level is None) != (self._level is None) or line.turn != last.turn:
            return False
        step = last.y - line.y
        if level is not None:
            close = page == self._page and 0 <= step <= _LOOSE_HEADING * line.size
            # A number begins a heading of its own.
            alike = line.size == last.size and line.bold == last.bold
            return close and alike and not line.text[:1].isdigit()
        size = last.size
        if line.size != size:
            size = max(line.size, last.size)
            # Bullets and words in a typewriter face may be smaller than the text they stand in.
            if min(line.size, last.size) < _ALIKE * size:
                return False
        if last.broken:
            return True
        ended = last.text.rstrip(_CLOSING).endswith(_ENDS)
        lower = line.text[:1].islower()
        if page != self._last_page or step < 0:
            return lower and not ended
        if step > _LOOSE * self._layout.step * size:
            return False
        return not self._starts_anew(last, line, ended, lower)

    def _starts_anew(self, last: Line, line: Line, ended: bool, lower: bool) -> bool:
        """Whether a line begins a paragraph, though no space parts it from the line before."""
        first = self._lines[0]
        if ended and _NUMBERED.match(line.text):
            return True
        if not lower and line.x - last.x > line.size and not _hangs(first.text):
            return True
        # Had the paragraph gone on, the line before would have had room for this one's first word.
        room = max(line.right, first.right) - last.right
        if lower and not ended:
            return room > _HALF_EMPTY * (last.right - last.x + room)
        word = len(line.text.partition(" ")[0]) + 1
        return word * (line.right - line.x) < room * len(line.text)

    def _flush(self) -> None:
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        text = _joined(lines)
        if self._level is not None and self._is_heading(text, len(lines), lines[0]):
            self._transcript.heading(self._level, text)
            return
        bullet = _BULLET.match(text)
        self._transcript.prose(
            text[bullet.end() :] if bullet else text,
            self._page,
            last_page=self._last_page,
            bullet=bool(bullet),
        )

    def _is_heading(self, text: str, lines: int, first: Line) -> bool:
        if len(text) > _LONGEST_HEADING or not any(map(str.isalnum, text)):
            return False
        if self._layout.is_larger(first):
            return True
        return lines <= _MOST_BOLD_LINES and not _NO_HEADING.search(text)


def _find_titles(lines: Sequence[Line], titles: Mapping[str, int]) -> dict[int, tuple[int, int]]:
    """Return the level and number of lines of the bookmarked headings, by their first line."""
    found: dict[int, tuple[int, int]] = {}
    for number in range(len(lines) if titles else 0):
        for count in range(1, _MOST_HEADING_LINES + 1):
            text = _joined(lines[number : number + count])
            if len(text) > _LONGEST_HEADING:
                break
            if (level := titles.get(plain(text))) is not None:
                found[number] = level, count
                break
    return found


def _hangs(text: str) -> bool:
    """Whether the lines after this one may be set in from it, as those of a list item are."""
    return bool(_BULLET.match(text) or _NUMBERED.match(text))


def _joined(lines: Sequence[Line]) -> str:
    """Join lines; a word broken at a line's end becomes whole if it goes on in lower case."""
    parts: list[str] = []
    for line in lines:
        text = line.text.strip()
        if parts and parts[-1].endswith("-") and parts[-1][-2:-1].isalnum():
            if text[:1].islower():
                parts[-1] = parts[-1][:-1]
            parts.append(text)
        else:
            parts.append(f" {text}" if parts else text)
        if line.broken:
            parts[-1] += "-"
    text = "".join(parts)
    # The question is much faster than the search.
    return _LEADER.sub(" ", text) if ".." in text or ". ." in text else text
