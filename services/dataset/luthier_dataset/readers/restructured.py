"""Reads reStructuredText by docutils' parser; nothing is included, fetched or run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from docutils import frontend, nodes, utils
from docutils.parsers.rst import Directive, Parser, directives

from luthier_dataset.readers.encoding import Decoded, decode_file
from luthier_dataset.readers.items import NOWHERE, Item, Place, Remark, UnreadableDocument
from luthier_dataset.readers.outline import Outline

MAX_BYTES = 2 * 1024 * 1024
"""docutils parses some 100 kB a second; a larger file is refused."""
_MAX_LINE = 10_000
"""Characters; docutils' own limit."""
_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "line_length_limit": _MAX_LINE,
    "syntax_highlight": "none",
    # Problems stand in the tree; none is printed and none ends the parsing.
    "report_level": 5,
    "halt_level": 5,
    "warning_stream": False,
}
_ROLE = re.compile(r":[\w:+.-]{1,80}:`[~!]?([^`<]*?)(?: <[^`]*>)?`")
"""A role that docutils does not know, such as Sphinx's :ref:`title <target>`."""
_NEAR = 4 * _MAX_LINE
"""Characters in which a line is looked for."""
_UNKNOWN = 2
"""Level of the message on a part that is left out: a warning, or worse."""
_SKIPPED = (
    nodes.Invisible,
    nodes.system_message,
    nodes.raw,
    nodes.image,
    nodes.label,
    nodes.decoration,
    nodes.colspec,
)
_VERBATIM = (nodes.FixedTextElement, nodes.line_block)


class _NoDate(Directive):
    """`date` would put the day of reading into the text."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return []


directives.register_directive("date", _NoDate)


def read_restructured(path: Path) -> Iterator[Item]:
    """Yield the sections: titles, paragraphs, lists, tables, literal blocks, admonitions.

    Ranges are of the file's own bytes, from the first line's text to the last's. Directives that
    docutils does not know or that would read another file are left out; a remark counts them.
    UnreadableDocument: it is no text, or too large or too deep to be parsed.
    """
    decoded = decode_file(path, MAX_BYTES)
    for number, line in enumerate(decoded.text.split("\n"), start=1):
        if len(line) > _MAX_LINE:
            raise UnreadableDocument(f"line {number} has more than {_MAX_LINE} characters")
    try:
        yield from _Reading(decoded).items()
    except RecursionError as error:
        raise UnreadableDocument("its lists or quotes nest too deep") from error
    yield from decoded.remarks


class _Reading:
    """One walk through the tree of a document."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded
        self._document = _parsed(decoded.text)
        self._outline = Outline()
        self._substitutes = {
            name: node.astext()[:_MAX_LINE]
            for node in self._document.findall(nodes.substitution_definition)
            for name in node["names"]
        }
        self._cursor = 0
        """Behind the last text that was found."""

    def items(self) -> Iterator[Item]:
        for child in self._document.children:
            self._read(child, depth=0, in_list=False)
            yield from self._outline.take()
        yield from self._outline.finish()
        left_out = [
            message
            for message in self._document.findall(nodes.system_message)
            if message["level"] >= _UNKNOWN and len(message.children) > 1
        ]
        if left_out:
            line = left_out[0].get("line", 0)
            why = left_out[0].children[0].astext()
            detail = f"parts left out: {len(left_out)}, the first in line {line}: {why}"
            yield Remark("skipped_part", detail, Place(line=line, last_line=line))

    def _read(self, node: nodes.Node, depth: int, in_list: bool) -> None:
        """Take in a node; `depth` counts the sections around it."""
        if isinstance(node, _SKIPPED):
            return
        if isinstance(node, nodes.title) and isinstance(node.parent, nodes.section):
            self._outline.heading(depth, self._text(node))
        elif isinstance(node, nodes.row):
            self._row(node)
        elif isinstance(node, _VERBATIM):
            lines = node.findall(nodes.line) if isinstance(node, nodes.line_block) else (node,)
            text = "\n".join(self._text(line) for line in lines)
            self._outline.verbatim(text, self._place(node))
        elif isinstance(node, nodes.TextElement):
            self._outline.prose(self._text(node), self._place(node), bullet=in_list)
        else:
            depth += isinstance(node, nodes.section)
            in_list = in_list or isinstance(node, nodes.list_item)
            for child in node.children:
                self._read(child, depth, in_list)

    def _row(self, row: nodes.row) -> None:
        cells, places = [], []
        cursor = self._cursor
        for cell in row.children:
            blocks = [node for node in cell.findall(nodes.TextElement) if node.rawsource]
            blocks = [node for node in blocks if not isinstance(node, nodes.Inline)]
            cells.append(" ".join(self._text(node) for node in blocks))
            for node in blocks:
                # Cells stand beside each other: each is looked for from the row's first line.
                self._cursor = cursor
                places.append(self._place(node))
        known = [place for place in places if place != NOWHERE]
        self._outline.table_row(cells, _around(known) if known else NOWHERE)

    def _text(self, node: nodes.Node) -> str:
        """The text of an element without its marks, substitutions made."""
        parts = []
        for text in node.findall(nodes.Text):
            parent = text.parent
            if isinstance(parent, nodes.substitution_reference):
                parts.append(self._substitutes.get(parent["refname"], text.astext()))
            elif not isinstance(parent, nodes.footnote_reference):
                parts.append(_ROLE.sub(r"\1", text.astext()))
        return "".join(parts)

    def _place(self, node: nodes.Element) -> Place:
        """Where the source of an element stands.

        docutils tells the first line, off by one behind some directives, and in some tables none.
        """
        parts = node.findall(nodes.line) if isinstance(node, nodes.line_block) else (node,)
        source = "\n".join(one.rawsource for one in parts)
        lines = [line.strip() for line in source.splitlines() if line.strip()]
        if not lines:
            return NOWHERE
        told = next((one.line for one in node.findall(nodes.Element) if one.line), 0)
        for line in (told, told - 1, told + 1):
            start, end = (self._decoded.line_start(max(1, line + more)) for more in (0, 1))
            if start >= self._row_start() and (place := self._match(lines, start, end)):
                return place
        return self._match(lines, self._cursor, self._cursor + _NEAR) or NOWHERE

    def _row_start(self) -> int:
        """Where the line of the cursor begins: cells of one row share it."""
        return self._decoded.text.rfind("\n", 0, self._cursor) + 1

    def _match(self, lines: list[str], start: int, end: int) -> Place | None:
        """Find lines one below the other, the first in a range of the text."""
        text = self._decoded.text
        first = at = text.find(lines[0], start, end)
        for before, line in pairwise(lines):
            if at >= 0:
                at = text.find(line, at + len(before), at + len(before) + _NEAR)
        if at < 0:
            return None
        self._cursor = at + len(lines[-1])
        return self._decoded.place(first, self._cursor)


def _around(places: list[Place]) -> Place:
    """From the first to the last of some places in any order."""
    return Place(
        line=min(place.line for place in places),
        last_line=max(place.last_line for place in places),
        start=min(place.start for place in places),
        end=max(place.end for place in places),
    )


def _parsed(text: str) -> nodes.document:
    settings = frontend.get_default_settings(Parser)
    for name, value in _SETTINGS.items():
        setattr(settings, name, value)
    document = utils.new_document("", settings)
    # No transforms: they would carry nested substitutions out, of which a few lines make gigabytes.
    Parser().parse(text, document)
    return document
