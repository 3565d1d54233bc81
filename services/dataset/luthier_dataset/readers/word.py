"""Reads Word documents (DOCX).

A block's `line` is the number of its (first) paragraph, counted in reading order, empty paragraphs
included. Headers and footers are left out; notes and text boxes follow the paragraph they hang on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
from docx.document import Document
from docx.enum.style import WD_STYLE_TYPE
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import qn

from luthier_dataset.readers.items import Item, UnreadableDocument
from luthier_dataset.readers.office import check_container, check_no_doctype, unsound
from luthier_dataset.readers.transcript import Transcript

_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
_BODY_TEXT = 9
"""The outline level that Word calls body text; lower ones are headings."""
_P, _TBL, _TR, _TC, _PPR = (qn(f"w:{name}") for name in ("p", "tbl", "tr", "tc", "pPr"))
_T, _HYPHEN, _VAL = (qn(f"w:{name}") for name in ("t", "noBreakHyphen", "val"))
_OUTLINE_LEVEL = f"{_PPR}/{qn('w:outlineLvl')}"
_NUMBERING = f"{_PPR}/{qn('w:numPr')}"
_WRAPPERS = {qn(f"w:{name}") for name in ("sdt", "sdtContent", "customXml", "ins", "moveTo")}
_TEXT_BOX = qn("w:txbxContent")
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
"""The same content once more, for older readers."""
_NO_TEXT = {_PPR, _TEXT_BOX, _FALLBACK, qn("w:moveFrom"), qn("w:del")}
_SPACES = {qn(f"w:{name}") for name in ("tab", "br", "cr", "ptab")}
_NOTES = {
    qn("w:footnoteReference"): RELATIONSHIP_TYPE.FOOTNOTES,
    qn("w:endnoteReference"): RELATIONSHIP_TYPE.ENDNOTES,
}
_WHAT = "Word document (DOCX)"


def read_word(path: Path) -> Iterator[Item]:
    """Yield the sections: headings by style or outline level, paragraphs, lists, tables."""
    check_container(path, must_have="word/document.xml", what=f"a {_WHAT}")
    try:
        document = docx.Document(str(path))
        check_no_doctype(document.element, "word/document.xml")
        yield from _Reader(document).read()
    except UnreadableDocument:
        raise
    except Exception as error:
        # python-docx reports a broken part as whatever its parsers raise, KeyError included.
        raise unsound(path, _WHAT) from error


class _Reader:
    """Walks through a document.

    It walks the XML itself: python-docx's own iteration leaves out content controls and tracked
    insertions, and repeats a cell as often as its width claims.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._styles = _Styles(document)
        self._notes = {
            note: _notes(document, relationship) for note, relationship in _NOTES.items()
        }
        self._transcript = Transcript()
        self._paragraphs = 0

    def read(self) -> Iterator[Item]:
        """Yield the sections of the document's body."""
        for block in _blocks(self._document.element.body):
            self._block(block)
            yield from self._transcript.take()
        yield from self._transcript.finish()

    def _block(self, block: Any) -> None:
        if block.tag == _TBL:
            self._table(block)
        else:
            self._paragraph(block)

    def _paragraph(self, paragraph: Any) -> None:
        self._paragraphs += 1
        text = _text(paragraph)
        level = self._styles.level(paragraph)
        if level is not None:
            self._transcript.heading(level, text)
        else:
            bullet = self._styles.is_list_item(paragraph)
            self._transcript.prose(text, line=self._paragraphs, bullet=bullet)
        self._attached(paragraph)

    def _attached(self, paragraph: Any) -> None:
        """Add the notes and text boxes of a paragraph."""
        for element in paragraph.iter(_TEXT_BOX, *_NOTES):
            if any(ancestor.tag == _FALLBACK for ancestor in element.iterancestors()):
                continue
            if element.tag != _TEXT_BOX:
                note = self._notes[element.tag].get(element.get(qn("w:id"), ""))
                self._transcript.prose(note or "", line=self._paragraphs)
            elif next(element.iterancestors(_P)) is paragraph:
                for block in _blocks(element):
                    self._block(block)

    def _table(self, table: Any) -> None:
        above: dict[int, str] = {}
        for row in _children(table, _TR):
            first = self._paragraphs + 1
            texts: list[str] = []
            nested: list[Any] = []
            column = 0
            for cell in _children(row, _TC):
                text = self._cell(cell, nested)
                properties = cell.tcPr
                # A cell merged downwards stands in every row, so that each row makes sense alone.
                merge = properties.find(qn("w:vMerge")) if properties is not None else None
                if merge is not None and merge.get(_VAL) != "restart":
                    text = above.get(column, "")
                above[column] = text
                texts.append(text)
                column += cell.grid_span
            self._transcript.table_row(texts, line=first)
            for inner in nested:
                self._table(inner)

    def _cell(self, cell: Any, nested: list[Any]) -> str:
        """Return a cell's text; tables inside it are added to `nested`."""
        texts = []
        for block in _blocks(cell):
            if block.tag == _TBL:
                nested.append(block)
            else:
                self._paragraphs += 1
                texts.append(_text(block))
        return " ".join(texts)


class _Styles:
    """What a document's paragraph styles say: heading levels and lists."""

    def __init__(self, document: Document) -> None:
        self._default = document.styles.default(WD_STYLE_TYPE.PARAGRAPH)
        self._by_id = {
            style.style_id: style
            for style in document.styles
            if style.type == WD_STYLE_TYPE.PARAGRAPH
        }
        self._known: dict[str | None, tuple[int | None, bool]] = {}

    def level(self, paragraph: Any) -> int | None:
        """0 for the title, 1 to 9 for headings, None for anything else."""
        own = _outline_level(paragraph)
        level = self._of(paragraph)[0] if own is None else own
        return None if level == _BODY_TEXT + 1 else level

    def is_list_item(self, paragraph: Any) -> bool:
        """Whether a paragraph is an item of a list, bulleted or numbered."""
        return _is_numbered(paragraph) or self._of(paragraph)[1]

    def _of(self, paragraph: Any) -> tuple[int | None, bool]:
        style_id = paragraph.style
        if style_id not in self._known:
            self._known[style_id] = self._resolve(style_id)
        return self._known[style_id]

    def _resolve(self, style_id: str | None) -> tuple[int | None, bool]:
        style = self._by_id.get(style_id, self._default)
        level, listed, seen = None, False, set()
        # Styles may inherit in a circle.
        while style is not None and style.style_id not in seen:
            seen.add(style.style_id)
            if level is None:
                level = _style_level(style)
            listed = listed or (style.name or "").startswith("List") or _is_numbered(style.element)
            style = style.base_style
        return level, listed


def _style_level(style: Any) -> int | None:
    if style.name == "Title":
        return 0
    if match := _HEADING.fullmatch(style.name or ""):
        return int(match.group(1))
    # Headings under localized or home-made style names carry an outline level.
    return _outline_level(style.element)


def _outline_level(element: Any) -> int | None:
    """The level a paragraph or a style sets itself, from 1; 10 is body text."""
    found = element.find(_OUTLINE_LEVEL)
    level = found.get(_VAL, "") if found is not None else ""
    return int(level) + 1 if level in set("0123456789") else None


def _is_numbered(element: Any) -> bool:
    numbering = element.find(_NUMBERING)
    if numbering is None:
        return False
    number = numbering.find(qn("w:numId"))
    # Number 0 takes a paragraph out of the list that its style puts it into.
    return number is None or number.get(_VAL) != "0"


def _children(element: Any, *tags: str) -> Iterator[Any]:
    """Yield the children with these tags, and those inside content controls and insertions."""
    for child in element:
        if child.tag in tags:
            yield child
        elif child.tag in _WRAPPERS:
            yield from _children(child, *tags)


def _blocks(element: Any) -> Iterator[Any]:
    return _children(element, _P, _TBL)


def _text(element: Any) -> str:
    return "".join(_runs(element))


def _runs(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag == _T:
            yield child.text or ""
        elif child.tag == _HYPHEN:
            yield "-"
        elif child.tag in _SPACES:
            yield " "
        elif child.tag not in _NO_TEXT:
            yield from _runs(child)


def _notes(document: Document, relationship: str) -> dict[str, str]:
    """Return the texts of the footnotes or endnotes by their ids."""
    for related in document.part.rels.values():
        if related.reltype == relationship and not related.is_external:
            root = parse_xml(related.target_part.blob)
            check_no_doctype(root, related.target_part.partname.lstrip("/"))
            return {
                note.get(qn("w:id")): " ".join(map(_text, _blocks(note)))
                for note in root
                if note.get(qn("w:type")) in (None, "normal")
            }
    return {}
