"""The lines of a PDF page, each with its type size and place, as far as a layout needs them."""

from __future__ import annotations

import ctypes
import re
from itertools import groupby, pairwise
from math import hypot, isfinite

import msgspec
import pypdfium2 as pdfium
import pypdfium2.raw as raw

_LINE = re.compile(r"[^\r\n\ufffe]+")
_HYPHEN = "\ufffe"
"""What pdfium writes for a hyphen at the end of a line, line break included."""
_DAMAGE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_BOLD = re.compile(rb"bold|black|heavy|demi", re.IGNORECASE)
_LONGEST_BOLD = 80
"""Characters; the weight of longer lines does not matter, and asking for it takes time."""
_CELL_GAP = 1.5
"""White space inside a line, in type sizes, from which on it parts the cells of a table."""
_SKEW = 0.1
"""Sine of the largest angle at which text still counts as upright (scans are never quite so)."""
_MARKER = re.compile(r"\W{1,2}|\(?[\w.]{1,8}[.)]|\d{1,3}(\.\d{1,3}){0,5}")
"""A bullet or a number, which a gap may follow without making a table."""
_HALF = 0.5


class Line(msgspec.Struct, gc=False):
    """A line of text. Lengths are points of 1/72 inch; the axes turn with the text."""

    text: str
    cells: tuple[str, ...]
    """The text's parts where wide gaps part it; empty for ordinary lines."""
    size: float
    """Type size, to half a point."""
    bold: bool
    """Known for short lines only."""
    x: float
    """Left end."""
    y: float
    """Base line, counted upwards."""
    right: float
    turn: int
    """Quarter turns of the text against the page."""
    broken: bool
    """Whether the line ends in a hyphen within a word."""


class PageLines(msgspec.Struct, gc=False):
    """The lines of one page, in the order in which the page draws them."""

    lines: list[Line]
    damaged: int
    """Characters that are none: controls, lone surrogates, what the font cannot name."""


def read_lines(page: pdfium.PdfPage) -> PageLines:
    """Return the lines of a page; PdfiumError if its text cannot be had."""
    text_page = page.get_textpage()
    try:
        return _Probe(text_page).lines()
    finally:
        text_page.close()


class _Probe:
    """Asks pdfium about the characters of a page, by line rather than by character, for speed."""

    def __init__(self, text_page: pdfium.PdfTextPage) -> None:
        self._page = text_page.raw
        text: str = text_page.get_text_range(errors="surrogatepass")
        # pdfium counts UTF-16 units, and passes over some characters in the text it gives.
        units = _units(text)
        self._wide = units != len(text)
        self._shifted = units != text_page.count_chars()
        self._text, self._damaged = _DAMAGE.subn("\ufffd", text)
        self._matrix = raw.FS_MATRIX()
        self._box = [ctypes.c_double() for _ in range(4)]
        self._name = ctypes.create_string_buffer(128)
        self._flags = ctypes.c_int()
        self._found: list[Line] = []

    def lines(self) -> PageLines:
        surplus = 0
        for match in _LINE.finditer(self._text):
            start, end = match.span()
            text = match.group()
            wider = _units(text) - len(text) if self._wide else 0
            broken = self._text.startswith(_HYPHEN, end)
            self._add(text, start + surplus, len(text) + wider, broken)
            surplus += wider
        return PageLines(self._found, self._damaged)

    def _add(self, text: str, start: int, length: int, broken: bool) -> None:
        if text.isspace():
            return
        first = last = self._index(start) if self._shifted else start
        size, turn, x, y = self._type(first)
        runs = raw.FPDFText_CountRects(self._page, first, length)
        if runs > 1:
            bare = text.rstrip()
            last = self._index(
                start + self._length(text, len(bare) - len(bare.rsplit(None, 1)[-1]))
            )
            last_size, last_turn, _, _ = self._type(last)
            if turn != last_turn:
                self._add_parted(text, start, broken)
                return
            size = min(size, last_size)
        if turn is None:
            return
        end = self._edges(runs - 1, turn)[1] if runs > 0 else x
        cells = self._cells(text, start, runs, size) if runs > 1 and turn == 0 else ()
        bold = len(text) <= _LONGEST_BOLD and self._is_bold(first)
        if bold and last != first:
            bold = self._is_bold(last)
        right = end if end > x else x
        self._found.append(Line(text, cells, size, bold, x, y, right, turn, broken))

    def _add_parted(self, text: str, start: int, broken: bool) -> None:
        """Part what pdfium takes for one line although its words run in several directions."""
        words = re.finditer(r"\S+\s*", text)
        by_turn = groupby(
            words, lambda word: self._type(self._index(start + self._length(text, word.start())))[1]
        )
        for _, group in by_turn:
            begin, *_, end = [at for word in group for at in word.span()]
            part = text[begin:end]
            self._add(part, start + self._length(text, begin), _units(part), broken)

    def _length(self, text: str, end: int) -> int:
        """The length of a text's beginning as pdfium counts it."""
        return _units(text[:end]) if self._wide else end

    def _index(self, unit: int) -> int:
        if not self._shifted:
            return unit
        return max(0, int(raw.FPDFText_GetCharIndexFromTextIndex(self._page, unit)))

    def _type(self, index: int) -> tuple[float, int | None, float, float]:
        """Size, quarter turns (None for text at an angle, as watermarks have it) and place."""
        matrix = self._matrix
        size = raw.FPDFText_GetFontSize(self._page, index)
        raw.FPDFText_GetMatrix(self._page, index, matrix)
        a, b, x, y = matrix.a, matrix.b, matrix.e, matrix.f
        size *= hypot(matrix.c, matrix.d)
        if not isfinite(size + a + b + x + y):
            return 0.0, 0, 0.0, 0.0
        size = round(abs(size) / _HALF) * _HALF
        if abs(b) <= _SKEW * abs(a):
            return (size, 0, x, y) if a > 0 else (size, 2, -x, -y)
        if abs(a) <= _SKEW * abs(b):
            return (size, 1, y, -x) if b > 0 else (size, 3, -y, x)
        return size, None, x, y

    def _edges(self, run: int, turn: int) -> tuple[float, float]:
        """Where a run of characters begins and ends along the line."""
        raw.FPDFText_GetRect(self._page, run, *self._box)
        left, top, right, bottom = self._box
        if turn == 0:
            return left.value, right.value
        if turn == 1:
            return bottom.value, top.value
        if turn == 2:
            return -right.value, -left.value
        return -top.value, -bottom.value

    def _cells(self, text: str, start: int, runs: int, size: float) -> tuple[str, ...]:
        edges = [self._edges(run, 0) for run in range(runs)]
        wide = _CELL_GAP * max(size, 1.0)
        gaps = {
            round(left, 1) for (_, before), (left, _) in pairwise(edges) if left - before > wide
        }
        if not gaps:
            return ()
        cells, begin = [], 0
        for match in re.finditer(r" +(?=\S)", text):
            index = self._index(start + self._length(text, match.end()))
            raw.FPDFText_GetCharBox(self._page, index, *self._box)
            if round(self._box[0].value, 1) in gaps:
                cells.append(text[begin : match.start()])
                begin = match.end()
        cells.append(text[begin:])
        only_marker = len(cells) == 2 and _MARKER.fullmatch(cells[0])
        return () if len(cells) == 1 or only_marker else tuple(cells)

    def _is_bold(self, index: int) -> bool:
        length = raw.FPDFText_GetFontInfo(
            self._page, index, self._name, len(self._name), self._flags
        )
        return 0 < length <= len(self._name) and bool(_BOLD.search(self._name.value))


def _units(text: str) -> int:
    """The length of a text in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
