"""Reads Word documents (DOCX)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docx
from docx.document import Document
from docx.oxml.ns import qn
from docx.table import Table, _Row
from docx.text.paragraph import Paragraph

from luthier_dataset.readers.section import Outline, Section, UnreadableDocument

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_MEMBERS = 10_000
_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)


def read_word(path: Path) -> list[Section]:
    """Return the sections of a document: headings by style or outline level, text, tables."""
    _check_archive(path)
    try:
        document: Document = docx.Document(str(path))
    except Exception as error:
        # python-docx reports a broken part as whatever its parsers raise, KeyError included.
        raise UnreadableDocument("it is not a sound Word document (DOCX)") from error
    outline = Outline()
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            for row in block.rows:
                outline.table_row(_cells(row))
        else:
            _paragraph(outline, block)
    return outline.sections()


def _check_archive(path: Path) -> None:
    """Refuse what is no DOCX and what unpacks to too much, before any of it is unpacked.

    The sizes declared in the archive bind: zipfile never reads past them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, RuntimeError) as error:
        raise UnreadableDocument("it is not a Word document (DOCX)") from error
    if "word/document.xml" not in {member.filename for member in members}:
        raise UnreadableDocument("it is a ZIP archive but not a Word document (DOCX)")
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or unpacked > MAX_UNPACKED_BYTES:
        raise UnreadableDocument(
            f"it unpacks to {unpacked} bytes in {len(members)} parts; "
            f"{MAX_UNPACKED_BYTES} bytes in {MAX_MEMBERS} parts are the most"
        )


def _paragraph(outline: Outline, paragraph: Paragraph) -> None:
    level = _heading_level(paragraph)
    if level is not None:
        outline.heading(level, paragraph.text)
    else:
        outline.prose(paragraph.text, bullet=_is_list_item(paragraph))


def _heading_level(paragraph: Paragraph) -> int | None:
    """0 for the title, 1 to 9 for headings, None for anything else."""
    style = paragraph.style
    while style is not None:
        if style.name == "Title":
            return 0
        if match := _HEADING.fullmatch(style.name or ""):
            return int(match.group(1))
        # Headings under localized or home-made style names carry an outline level.
        if (level := _outline_level(style.element)) is not None:
            return level
        style = style.base_style
    return _outline_level(paragraph._p)


def _outline_level(element: object) -> int | None:
    found = element.find(f"{qn('w:pPr')}/{qn('w:outlineLvl')}")  # type: ignore[attr-defined]
    if found is None:
        return None
    level = found.get(qn("w:val"), "")
    # 9 is Word's "body text".
    return int(level) + 1 if level in set("012345678") else None


def _is_list_item(paragraph: Paragraph) -> bool:
    style = paragraph.style.name if paragraph.style is not None else None
    numbered = paragraph._p.pPr is not None and paragraph._p.pPr.numPr is not None
    return numbered or (style or "").startswith("List")


def _cells(row: _Row) -> Iterator[str]:
    before = None
    for cell in row.cells:
        # A merged cell stands once for every column it spans.
        if cell._tc is not before:
            yield cell.text
        before = cell._tc
