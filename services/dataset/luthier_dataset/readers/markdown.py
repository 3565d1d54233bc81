"""Reads Markdown: CommonMark with tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import EnvType

from luthier_dataset.readers.encoding import Decoded, decode_file
from luthier_dataset.readers.items import Item, Place, UnreadableDocument
from luthier_dataset.readers.outline import Outline

MAX_BYTES = 8 * 1024 * 1024
"""Markdown is parsed whole; a larger file is refused."""
_MAX_LINES = 200_000
_MAX_MARKS = 500_000
_MARK = re.compile(r"[\[*_<&\\]")
"""What takes the parser its time; the limits keep the densest file within some ten seconds."""
_MAX_INLINE = 64 * 1024
"""Characters; the marks of a longer paragraph are left in it."""
_MAX_NESTING = 40
"""Lists, list items and quotes inside each other; the parser stops there without a word."""

_FRONT_MATTER = re.compile(r"\A---\n.*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
# Paragraphs are parsed one by one as they are needed, so that the marks of a whole document never
# lie in memory.
_BLOCKS = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable("table").disable("inline")
_INLINE = MarkdownIt("commonmark")


def read_markdown(path: Path) -> Iterator[Item]:
    """Yield the sections of a CommonMark document with tables; front matter and HTML are left out.

    Ranges are of the file's own bytes and span whole lines, marks included. UnreadableDocument:
    it is no text, or too large, too dense or too deep to be parsed.
    """
    decoded = decode_file(path, MAX_BYTES)
    for what, found, most in (
        ("lines", decoded.text.count("\n"), _MAX_LINES),
        ("marks", len(_MARK.findall(decoded.text)), _MAX_MARKS),
    ):
        if found > most:
            raise UnreadableDocument(f"it has {found} {what}; Markdown may have {most} at most")
    yield from _Reading(decoded).sections()
    yield from decoded.remarks


class _Reading:
    """One pass over the tokens of a document."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded
        self._outline = Outline()
        self._env: EnvType = {}
        # Line numbers have to stay.
        source = _FRONT_MATTER.sub(lambda match: "\n" * match[0].count("\n"), decoded.text)
        self._tokens = iter(_BLOCKS.parse(source, self._env))

    def sections(self) -> Iterator[Item]:
        lists = 0
        place = Place()
        for token in self._tokens:
            if token.level + token.nesting >= _MAX_NESTING:
                raise UnreadableDocument(f"line {place.line}: lists or quotes nest too deep")
            if token.map:
                place = self._decoded.lines_place(token.map[0] + 1, token.map[1])
            match token.type:
                case "heading_open":
                    title = self._inline(next(self._tokens))
                    self._outline.heading(int(token.tag.removeprefix("h")), title)
                case "list_item_open" | "list_item_close":
                    lists += token.nesting
                case "tr_open":
                    self._outline.table_row(self._cells(), place)
                case "fence" | "code_block":
                    self._outline.verbatim(token.content, place)
                case "inline":
                    self._outline.prose(self._inline(token), place, bullet=lists > 0)
            yield from self._outline.take()
        yield from self._outline.finish()

    def _cells(self) -> Iterator[str]:
        for token in self._tokens:
            if token.type == "tr_close":
                return
            if token.type == "inline":
                yield self._inline(token)

    def _inline(self, token: Token) -> str:
        """The text of an inline token without its marks."""
        if len(token.content) > _MAX_INLINE:
            return token.content
        children: list[Token] = []
        _INLINE.inline.parse(token.content, _INLINE, self._env, children)
        parts = []
        for child in children:
            match child.type:
                case "text" | "text_special" | "code_inline" | "image":
                    parts.append(child.content)
                case "softbreak" | "hardbreak":
                    parts.append(" ")
        return "".join(parts)
