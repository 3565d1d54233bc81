"""Reads HTML as browsers do (the WHATWG standard's parsing), and the text of HTML e-mails.

The parser does not tell where an element stands in its source, and tags may be implied or moved.
Ranges are therefore of the text read, see `transcript`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from luthier_dataset.readers.encoding import MAX_WHOLE_BYTES, Decoded, Encoding, encoding_of
from luthier_dataset.readers.items import Item, Section, UnreadableDocument
from luthier_dataset.readers.transcript import Transcript

MAX_BYTES = MAX_WHOLE_BYTES // 2
"""HTML is parsed whole; a larger file is refused."""
_MAX_TAGS = 1_000_000
_MAX_DEPTH = 2_000
"""Open elements: the standard looks through all of them at each paragraph."""
_MAX_ATTRIBUTES = 5_000
"""Roughly; each is compared with all others of its tag."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"),
    *("dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
    *("header", "hgroup", "hr", "html", "legend", "li", "main", "menu", "ol", "p", "pre", "search"),
    *("section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
    *_HEADINGS,
}
"""Elements that stand in lines of their own; any other is part of a line."""
_LEFT_OUT = {
    *("audio", "button", "canvas", "datalist", "embed", "head", "iframe", "nav", "noscript"),
    *("object", "script", "select", "style", "svg", "template", "textarea", "title", "video"),
}
"""Elements that are no text of the document."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

_NO_CONTENT = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source"),
    *("track", "wbr"),
}
_NEVER_INSIDE_THEMSELVES = {"p", "li", "dt", "dd", "td", "th", "tr", "option", "tbody", "thead"}
_RAW = "script|style|textarea|title|iframe|noembed|noframes|xmp"
_TAG = re.compile(
    rf"<!--.*?(?:-->|\Z)|<({_RAW})\b.*?(?:</\1|\Z)|<(/?)([a-z][^\s<>/]*)[^<>]*",
    re.IGNORECASE | re.DOTALL,
)
_DECLARED = re.compile(
    rb"""<(?:meta|\?xml)\b[^<>]*?(?:charset|encoding)=["']?([\w.:-]{1,40})""", re.IGNORECASE
)
"""The encoding that a page claims, near its beginning."""


def read_html(path: Path) -> Iterator[Item]:
    """Yield the sections: headings, paragraphs, list items, tables, preformatted text.

    Scripts, styles, navigation, forms' controls, templates and what is hidden are left out. A
    table that holds headings or tables lays out a page: its cells are read as prose.
    UnreadableDocument: it is no text, or too large or too deep to be parsed.
    """
    decoded = _decode(path)
    yield from _Reading(_parsed(decoded.text)).sections()
    yield from decoded.remarks


def text_of(html: str, without: str = "") -> str:
    """Return the text of an HTML document, a block a line; UnreadableDocument as for a file.

    Elements that the CSS selector `without` fits are left out too.
    """
    tree = _parsed(html)
    for node in tree.css(without) if without else ():
        node.decompose()
    return "\n".join(section.text for section in _Reading(tree).sections())


def _decode(path: Path) -> Decoded:
    """The text of a file; where its encoding would be a guess, what it declares counts."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnreadableDocument(f"it has {size} bytes; HTML may have {MAX_BYTES} at most")
    data = path.read_bytes()
    encoding = encoding_of(path)
    declared = _DECLARED.search(data, 0, 4096)
    if encoding.guessed and declared:
        try:
            name = codecs.lookup(declared[1].decode("ascii")).name
            # The standard reads Latin-1 and ASCII as the superset that is meant.
            name = "cp1252" if name in ("iso8859-1", "ascii") else name
            return Decoded(data, Encoding(name))
        except (LookupError, ValueError):
            pass
    return Decoded(data, encoding)


def _parsed(html: str) -> LexborHTMLParser:
    _check_size(html)
    try:
        return LexborHTMLParser(html.encode("utf-8", "replace"))
    except (SelectolaxError, ValueError, MemoryError) as error:
        raise UnreadableDocument("its HTML cannot be parsed") from error


def _check_size(html: str) -> None:
    """Refuse what would take the parser too long, by a rough count of the open elements."""
    depth = 0
    for tags, match in enumerate(_TAG.finditer(html), start=1):
        end, name = match[2], (match[3] or "").lower()
        if name and name not in _NO_CONTENT and name not in _NEVER_INSIDE_THEMSELVES:
            if end:
                depth = max(0, depth - 1)
            elif name in _BLOCKS or not match[0].endswith("/"):
                depth += 1
        for what, found, most in (
            ("tags", tags, _MAX_TAGS),
            ("nested elements", depth, _MAX_DEPTH),
            ("attributes in a tag", match[0].count(" "), _MAX_ATTRIBUTES),
        ):
            if name and found > most:
                line = html.count("\n", 0, match.start()) + 1
                raise UnreadableDocument(f"line {line}: it has more than {most} {what}")


class _Reading:
    """One walk through the tree of a document."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self._transcript = Transcript()
        self._tree = tree
        self._text: list[str] = []
        self._cells: list[str] | None = None
        """Of the row that is open, if it is one of a table with data."""
        self._lists = self._preformatted = self._headings = 0
        """How many such elements are open."""

    def sections(self) -> Iterator[Section]:
        # Not recursive: pages may be deep.
        node = self._tree.root
        while node is not None:
            child = self._enter(node)
            if child is not None:
                node = child
                continue
            while node is not None:
                self._leave(node)
                yield from self._transcript.take()
                if node.next is not None:
                    node = node.next
                    break
                node = node.parent
        yield from self._transcript.finish()

    def _enter(self, node: LexborNode) -> LexborNode | None:
        """Take in a node and return its first child, if the children are to be read."""
        if node.is_text_node:
            self._text.append(node.text_content or "")
            return None
        tag = node.tag or ""
        if tag in _LEFT_OUT or (node.is_element_node and _is_hidden(node)):
            return None
        if tag in _BLOCKS:
            self._flush()
        if self._cells is not None and (tag in _HEADINGS or tag in ("table", "pre", "tr")):
            self._end_row()
        if tag == "br":
            self._text.append("\n")
        elif tag == "tr":
            self._cells = []
        self._count(tag, 1)
        return node.first_child

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag not in _BLOCKS or _is_hidden(node):
            return
        if tag in _HEADINGS and self._headings == 1:
            self._transcript.heading(_HEADINGS[tag], self._taken())
        elif tag in ("td", "th") and self._cells is not None:
            self._cells.append(self._taken())
        else:
            self._flush()
        if tag == "tr" and self._cells is not None:
            self._end_row()
        self._count(tag, -1)

    def _count(self, tag: str, by: int) -> None:
        self._lists += by * (tag == "li")
        self._preformatted += by * (tag == "pre")
        self._headings += by * (tag in _HEADINGS)

    def _flush(self) -> None:
        """End a line; inside a heading or a cell it is no more than a space."""
        if self._headings or self._cells is not None:
            self._text.append(" ")
        elif self._preformatted:
            self._transcript.verbatim(self._taken())
        else:
            self._transcript.prose(self._taken(), bullet=self._lists > 0)

    def _end_row(self) -> None:
        cells, self._cells = [*(self._cells or ()), self._taken()], None
        self._transcript.table_row(cells)

    def _taken(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return text


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    style = attributes.get("style")
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or (style is not None and _HIDDEN.search(style) is not None)
    )
