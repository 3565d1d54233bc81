"""Reads Markdown: CommonMark with tables.

The parser holds all it makes of a text in memory. It is therefore given a segment at a time, cut
where a block begins whatever follows; what a segment leaves open is parsed again with the next.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import EnvType

from luthier_dataset.readers.encoding import Encoding, Line, encoding_of, lines_of
from luthier_dataset.readers.items import Item, Place, Remark, UnreadableDocument, hull
from luthier_dataset.readers.outline import Outline

MAX_CHARACTERS = 8 * 1024 * 1024
"""Of a block that cannot be cut: a paragraph, list item, table, quote or lines of code."""
MAX_LINES = 200_000
MAX_MARKS = 500_000
"""The limits keep the densest block within some ten seconds and half a gibibyte."""
_PARTS = 8
"""A segment has this part of the limits, as long as its blocks are smaller."""
_MARKS = "[*_<&\\`|"
"""What takes the parser its time and, as cells of tables, memory.

A text without these is the same when it is parsed.
"""
_MAX_INLINE = 64 * 1024
"""Characters; the marks of a longer paragraph are left in it."""
_MAX_NESTING = 40
"""Lists, list items and quotes inside each other; the parser stops there without a word."""
_MAX_LABELS = 64 * 1024 * 1024
"""Characters of the names of all link definitions, and what keeping each costs."""
_LABEL_COST = 100

_DEFINITION = "]:"
"""Is in each link definition, and in few documents without."""
_FRONT_MATTER = "---"
_FRONT_MATTER_END = re.compile(r"(?:---|\.\.\.)[ \t]*")
_CHUNK = 1024 * 1024
# Paragraphs are parsed one by one as they are needed, so that the marks of a whole segment never
# lie in memory.
_BLOCKS = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable("table").disable("inline")
_INLINE = MarkdownIt("commonmark")


def read_markdown(path: Path) -> Iterator[Item]:
    """Yield the sections of a CommonMark document with tables; front matter and HTML are left out.

    Ranges are of the file's own bytes and span whole lines, marks included. UnreadableDocument:
    it is no text, or a block of it is too large, too dense or too deep to be parsed.
    """
    yield from _read(path, _PARTS)


def _read(path: Path, parts: int) -> Iterator[Item]:
    """Yield the items of a document; the more parts, the smaller the segments."""
    source = _Source(path)
    segments, labels = _parsed(source, parts)
    reading = _Reading(labels)
    for segment in segments:
        yield from reading.sections(segment)
    yield from reading.finish()
    yield from source.remarks


def _parsed(source: _Source, parts: int) -> tuple[Iterator[_Segment], frozenset[str]]:
    """Return the segments of a document, and the names that it defines as links anywhere."""
    segments = _segments(source, parts)
    if not source.has(_DEFINITION):
        return segments, frozenset()
    first = list(islice(segments, 2))
    labels = _labels(chain(first, segments))
    # One segment is not parsed twice; more would take memory.
    return iter(first) if len(first) == 1 else _segments(source, parts), labels


class _Source:
    """The lines of a file that are Markdown; they are read more than once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.encoding = encoding_of(path)
        self.remarks: list[Remark] = []
        """Those of the last reading of the lines."""
        self._front_matter = 0
        self._front_matter = self._front_matter_lines()

    def lines(self) -> Iterator[Line]:
        """Yield the lines behind the front matter, each whole."""
        return islice(self._whole_lines(), self._front_matter, None)

    def has(self, text: str) -> bool:
        """Tell whether a text may stand in the file."""
        wanted = text.encode(self.encoding.name)
        rest = b""
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                if wanted in rest + chunk:
                    return True
                rest = chunk[-len(wanted) :]
        return False

    def _front_matter_lines(self) -> int:
        lines = self._whole_lines()
        first = next(lines, None)
        if first and first.text == _FRONT_MATTER:
            for line in lines:
                if _FRONT_MATTER_END.fullmatch(line.text):
                    return line.place.line
        return 0

    def _whole_lines(self) -> Iterator[Line]:
        self.remarks = []
        pieces: list[Line] = []
        size = 0
        for line in lines_of(self._path, self.encoding):
            if isinstance(line, Remark):
                self.remarks.append(line)
            elif line.ends and not pieces:
                yield line
            else:
                pieces.append(line)
                size += len(line.text)
                if size > MAX_CHARACTERS:
                    raise _too_large(line, "characters", MAX_CHARACTERS)
                if line.ends:
                    text = "".join(piece.text for piece in pieces)
                    yield Line(text, hull(piece.place for piece in pieces), True)
                    pieces, size = [], 0


@dataclass
class _Segment:
    """Some lines of a document and the tokens of the blocks in them."""

    encoding: Encoding
    lines: list[Line] = field(default_factory=list)
    characters: int = 0
    marks: int = 0
    tokens: list[Token] = field(default_factory=list)
    env: EnvType = field(default_factory=dict)

    def add(self, line: Line) -> None:
        self.lines.append(line)
        self.characters += len(line.text) + 1
        self.marks += sum(map(line.text.count, _MARKS))

    def excess(self, parts: int) -> tuple[str, int] | None:
        """Return the limit of which this is more than a part, if there is one."""
        if self.characters * parts > MAX_CHARACTERS:
            return "characters", MAX_CHARACTERS
        if len(self.lines) * parts > MAX_LINES:
            return "lines", MAX_LINES
        return ("marks", MAX_MARKS) if self.marks * parts > MAX_MARKS else None

    def parse(self) -> None:
        """Make the tokens; UnreadableDocument if blocks nest too deep."""
        self.env, self.tokens = {}, []
        with _no_collection():
            self.tokens = _BLOCKS.parse("\n".join(line.text for line in self.lines), self.env)
        line = 0
        for token in self.tokens:
            line = token.map[0] if token.map else line
            if token.level + token.nesting >= _MAX_NESTING:
                number = self.lines[line].place.line
                raise UnreadableDocument(f"line {number}: lists or quotes nest too deep")

    def cut(self) -> _Segment | None:
        """Take off the last block, which may go on, and return it; None if there is but one."""
        for index in range(len(self.tokens) - 1, 0, -1):
            token = self.tokens[index]
            if token.map and self._is_border(token):
                line = token.map[0]
                rest = _Segment(self.encoding)
                for one in self.lines[line:]:
                    rest.add(one)
                del self.lines[line:], self.tokens[index:]
                return rest
        return None

    def _is_border(self, token: Token) -> bool:
        """Tell whether the parser would find the same from there if it began there.

        Not where a link definition may stand before, as the lines that follow may be its title,
        nor at a list item that would be the first row of a table if it were not in a list.
        """
        line = token.map[0] if token.map else 0
        if line and token.level == 0:
            return token.markup.startswith("#") or not self.lines[line - 1].text.strip(" \t")
        item = line and token.level == 1 and token.type == "list_item_open"
        return bool(item) and "|" not in self.lines[line].text

    def place(self, token: Token) -> Place:
        """Return the place of a token's lines, without white space around them."""
        first, end = token.map or (0, 0)
        lines = [line for line in self.lines[first:end] if line.text.strip()]
        start, last = (lines[0], lines[-1]) if lines else 2 * (self.lines[first],)
        before = start.text[: len(start.text) - len(start.text.lstrip())]
        behind = last.text[len(last.text.rstrip()) :]
        return Place(
            line=start.place.line,
            last_line=last.place.line,
            start=start.place.start + self.encoding.width(before),
            end=last.place.end - self.encoding.width(behind),
        )


def _segments(source: _Source, parts: int) -> Iterator[_Segment]:
    """Cut a document where it can be cut; UnreadableDocument if a block is above the limits."""
    segment = _Segment(source.encoding)
    share = parts
    for line in source.lines():
        segment.add(line)
        if not segment.excess(share):
            continue
        segment.parse()
        if rest := segment.cut():
            yield segment
            segment, share = rest, parts
        if excess := segment.excess(1):
            raise _too_large(segment.lines[0], *excess)
        # Doubled, so that a block is not parsed again for each of its lines.
        while share > 1 and segment.excess(share):
            share //= 2
    segment.parse()
    yield segment


def _labels(segments: Iterable[_Segment]) -> frozenset[str]:
    """Return the names that are defined as links."""
    labels: set[str] = set()
    size = 0
    for segment in segments:
        for label, link in segment.env.get("references", {}).items():
            if link["map"][0] < len(segment.lines) and label not in labels:
                labels.add(label)
                size += len(label) + _LABEL_COST
        if size > _MAX_LABELS:
            raise _too_large(segment.lines[0], "characters in link definitions", _MAX_LABELS)
    return frozenset(labels)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Do not look for cycles: tokens have none, and looking through them takes a third longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _too_large(line: Line, what: str, most: int) -> UnreadableDocument:
    reason = f"what begins there has more than {most} {what}, and cannot be read in parts"
    return UnreadableDocument(f"line {line.place.line}: {reason}")


class _Reading:
    """One pass over the tokens of a document."""

    def __init__(self, labels: Iterable[str]) -> None:
        # Where links lead is no text of the document.
        link = {"href": "", "title": ""}
        self._env: EnvType = {"references": dict.fromkeys(labels, link)}
        self._outline = Outline()
        self.finish = self._outline.finish

    def sections(self, segment: _Segment) -> Iterator[Item]:
        """Yield the sections that are closed by the end of a segment."""
        lists = 0
        tokens = iter(segment.tokens)
        for token in tokens:
            match token.type:
                case "heading_open":
                    title = self._inline(next(tokens))
                    self._outline.heading(int(token.tag.removeprefix("h")), title)
                case "list_item_open" | "list_item_close":
                    lists += token.nesting
                    continue
                case "tr_open":
                    self._outline.table_row(self._cells(tokens), segment.place(token))
                case "fence" | "code_block":
                    self._outline.verbatim(token.content, segment.place(token))
                case "inline":
                    text = self._inline(token)
                    self._outline.prose(text, segment.place(token), bullet=lists > 0)
                case _:
                    continue
            yield from self._outline.take()

    def _cells(self, tokens: Iterator[Token]) -> Iterator[str]:
        for token in tokens:
            if token.type == "tr_close":
                return
            if token.type == "inline":
                yield self._inline(token)

    def _inline(self, token: Token) -> str:
        """The text of an inline token without its marks."""
        content = token.content
        if len(content) > _MAX_INLINE or not any(map(content.__contains__, _MARKS)):
            return content
        children: list[Token] = []
        _INLINE.inline.parse(content, _INLINE, self._env, children)
        parts = []
        for child in children:
            match child.type:
                case "text" | "text_special" | "code_inline" | "image":
                    parts.append(child.content)
                case "softbreak" | "hardbreak":
                    parts.append(" ")
        return "".join(parts)
