"""What the layout of a PDF says: its body type, its heading levels, its running headers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import pairwise

import msgspec

from luthier_dataset.readers.pdf_lines import Line

LEVELS = 6
"""Heading levels told apart by type size."""
BOOKMARK = 100
"""Outline level of the first level of bookmarks; sizes between two of them rank in between."""
_STEP = 10
"""Between the levels of two sizes: room for the depth of numbers such as 2.3.1."""
_LARGER = 1.08
"""A heading's type against the body's, at least."""
_LONGEST_LINE = 120
"""Characters of a line that may be a heading or a running header."""
_OUTER = 3
"""Lines at the top and at the bottom of a page that may be running headers or footers."""
_REPEATED = 1 / 3
"""Share of the pages: left and right ones may have headers of their own, opening ones none."""
_NUMBERED = 0.05
"""The same for lines that begin or end with the number of their page: no chance does that."""
_FEWEST_REPEATS = 3
_USUAL_STEP = 1.2
_FREQUENT = 0.15
_FEWEST_STEPS = 5
_NUMBER = re.compile(r"(?<!\S)\d{1,6}(?!\S)")
_MARKED = re.compile(r"(?:\d{1,3}\.)*\d{1,3}\.?\s+(?=\S)")
_BOLD_BODY = 0.4
"""Share of bold among the short body lines from which on bold marks no heading."""


class Layout(msgspec.Struct, frozen=True):
    """What holds for a whole document."""

    body: float
    """Type size of most characters."""
    step: float
    """From one line of a paragraph to the next, in type sizes."""
    levels: Mapping[float, int]
    """Outline levels of the type sizes of headings."""
    bold: bool
    """Whether short bold lines in body type are headings."""
    running: frozenset[tuple[int, str]]
    """What running headers and footers look like."""

    def is_larger(self, line: Line) -> bool:
        """Whether a line's type is that of headings."""
        return line.size >= self.body * _LARGER

    def level(self, line: Line) -> int | None:
        """Return the outline level that a line's type claims, None for body text."""
        if line.size <= self.body and not line.bold:
            return None
        if self.is_larger(line) and self.levels:
            nearest = min(self.levels, key=lambda size: abs(size - line.size))
            return self.levels[nearest] + _depth(line.text)
        if line.bold and self.bold and line.size >= self.body:
            return max(self.levels.values(), default=0) + _STEP + _depth(line.text)
        return None

    def without_running(self, page: int, lines: Sequence[Line]) -> list[Line]:
        """Return the lines of a page without its running headers and footers."""
        return _without(self.running, page, lines, self.body)


def find_layout(
    pages: Mapping[int, Sequence[Line]], bookmarks: Mapping[int, Mapping[str, int]]
) -> Layout:
    """Infer the layout of a document from pages of it; both mappings are by page number.

    `bookmarks` gives outline levels by `plain` titles.
    """
    sizes: Counter[float] = Counter()
    for lines in pages.values():
        for line in lines:
            sizes[line.size] += len(line.text)
    # Ties go to the smaller type.
    body = min(sizes, key=lambda size: (-sizes[size], size), default=0.0)
    return Layout(
        body,
        _line_step(pages, body),
        _size_levels(pages, body, bookmarks),
        _bold_is_rare(pages, body),
        _running(pages, body),
    )


def plain(title: str) -> str:
    """Return a heading without number, case, space and punctuation, to compare by."""
    bare = _MARKED.sub("", title.strip(), count=1)
    return "".join(filter(str.isalnum, bare)).casefold()


def _depth(text: str) -> int:
    """0 for `2 Scope` and for what has no number, 1 for `2.3 Scope` and so on."""
    number = _MARKED.match(text)
    return min(number.group().strip().strip(".").count("."), _STEP - 1) if number else 0


def _size_levels(
    pages: Mapping[int, Sequence[Line]], body: float, bookmarks: Mapping[int, Mapping[str, int]]
) -> dict[float, int]:
    marked: dict[float, int] = {}
    found = set()
    for page, lines in pages.items():
        titles = bookmarks.get(page, {})
        for line in lines:
            if line.size < body * _LARGER or len(line.text) > _LONGEST_LINE:
                continue
            if any(map(str.isalpha, line.text)):
                found.add(line.size)
            if titles and (level := titles.get(plain(line.text))) is not None:
                marked[line.size] = min(level, marked.get(line.size, level))
    levels: dict[float, int] = {}
    level = 0
    for size in sorted(found | marked.keys(), reverse=True):
        if size in marked:
            level = max(marked[size], level)
        elif len(levels) < LEVELS:
            level += _STEP
        levels[size] = level
    return levels


def _line_step(pages: Mapping[int, Sequence[Line]], body: float) -> float:
    steps = Counter(
        step
        for lines in pages.values()
        for line, following in pairwise(lines)
        if line.size == following.size == body
        and body
        and 0.8 <= (step := round((line.y - following.y) / body, 1)) <= 3
    )
    # Documents of short paragraphs have more steps between paragraphs than inside of them.
    least = max(_FEWEST_STEPS, _FREQUENT * steps.total())
    return min((step for step, count in steps.items() if count >= least), default=_USUAL_STEP)


def _bold_is_rare(pages: Mapping[int, Sequence[Line]], body: float) -> bool:
    lines = [line for lines in pages.values() for line in lines if line.size == body]
    return sum(line.bold for line in lines) <= _BOLD_BODY * len(lines)


def _running(pages: Mapping[int, Sequence[Line]], body: float) -> frozenset[tuple[int, str]]:
    seen: Counter[tuple[int, str]] = Counter()
    for page, lines in pages.items():
        # A set: a page counts once for a form.
        upwards = _upwards(lines)
        outer = {*upwards[:_OUTER], *upwards[-_OUTER:]}
        seen.update({form for number in outer for form in _forms(page, lines[number], body)})
    running = frozenset(
        form
        for form, count in seen.items()
        if count >= max(_FEWEST_REPEATS, (_NUMBERED if "\0" in form[1] else _REPEATED) * len(pages))
    )
    # Where nothing else is left, what repeats is the text.
    left = any(_without(running, page, lines, body) for page, lines in pages.items())
    return running if left else frozenset()


def _without(
    running: Set[tuple[int, str]], page: int, lines: Sequence[Line], body: float
) -> list[Line]:
    """Take running lines off a page from outside: what stands inside of others is text."""
    upwards = _upwards(lines)
    taken: set[int] = set()
    for outer in (upwards[:_OUTER], upwards[: -_OUTER - 1 : -1]):
        for number in outer:
            if running.isdisjoint(_forms(page, lines[number], body)):
                break
            taken.add(number)
    return [line for number, line in enumerate(lines) if number not in taken]


def _upwards(lines: Sequence[Line]) -> list[int]:
    """Return the numbers of a page's lines from the lowest to the uppermost."""
    return sorted(range(len(lines)), key=lambda number: lines[number].y)


def _forms(page: int, line: Line, body: float) -> Iterator[tuple[int, str]]:
    """Yield what a line may repeat on other pages: its height with its text, or with its number.

    Numbers count from the page they stand on; the text beside them may vary, as in `12 Chapter 2`.
    """
    if len(line.text) > _LONGEST_LINE:
        return
    height = round(line.y)
    yield height, line.text
    # Larger type heads what is numbered: a chapter on each page, perhaps.
    for number in _NUMBER.finditer(line.text if line.size <= body else ""):
        offset = int(number.group()) - page
        before, after = line.text[: number.start()].strip(), line.text[number.end() :].strip()
        if not before or not after:
            yield height, f"\0{offset}"
        else:
            yield height, f"{before}\0{offset}{after}"
