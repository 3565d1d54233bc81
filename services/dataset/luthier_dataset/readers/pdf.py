"""Reads PDF documents by pdfium.

Heading levels come from the bookmarks and from type sizes; running headers, footers and page
numbers are left out. pdfium is native code that meets foreign bytes: it may break down, so a child
process calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec
import pypdfium2 as pdfium
import pypdfium2.raw as raw

from luthier_dataset.readers.items import Item, Place, Remark, UnreadableDocument
from luthier_dataset.readers.pdf_layout import BOOKMARK, find_layout, plain
from luthier_dataset.readers.pdf_lines import PageLines, read_lines
from luthier_dataset.readers.pdf_order import in_reading_order
from luthier_dataset.readers.pdf_prose import Prose

_SAMPLE_PAGES = 96
_SAMPLE_LINES = 20_000
"""Bounds of the sample that the layout is inferred from; its lines lie in memory."""
_MOST_BOOKMARKS = 10_000
_DEEPEST_BOOKMARK = 8
_MOST_FAILURES = 1000
"""Pages that cannot be read, one after another, before the rest is given up."""
_MOST_MENDED_BYTES = 64 * 1024 * 1024
"""A damaged document is mended in memory."""
_CATALOG = re.compile(rb"/Type\s*/Catalog\b")
_OBJECT = re.compile(rb"(\d{1,9})\s+(\d{1,5})\s+obj\b")
_TAIL_BYTES = 1024
"""The end mark stands within them (implementation note 18 of Adobe's PDF Reference 1.7)."""


def read_pdf(path: Path) -> Iterator[Item]:
    """Yield the sections of a document in reading order, then remarks on what could not be read.

    A block's `page` is where it begins, `last_page` where it ends; byte ranges as `transcript`
    counts them.
    """
    if not _has_header(path):
        raise UnreadableDocument("it is not a PDF document")
    document = _open(path)
    try:
        yield from _Reader(document).read()
    except pdfium.PdfiumError as error:
        raise UnreadableDocument("it is not a sound PDF document") from error
    finally:
        document.close()
    if not _has_end(path):
        yield Remark("skipped_part", "the file has no end mark: it seems to be cut off")


class _Pages(msgspec.Struct):
    """Some pages that share a fault."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, page: int, last: int = 0) -> None:
        """Add a page, or all from one to another."""
        last = last or page
        self.count += last - page + 1
        self.first = min(self.first or page, page)
        self.last = max(self.last, last)

    def __str__(self) -> str:
        if self.count == 1:
            return f"page {self.first}"
        return f"{self.count} pages (the first is page {self.first}, the last {self.last})"

    @property
    def place(self) -> Place:
        return Place(page=self.first, last_page=self.last)


class _Reader:
    """Reads one open document; each page is opened once."""

    def __init__(self, document: pdfium.PdfDocument) -> None:
        self._document = document
        self._has_text = False
        self._damage = 0
        self._damaged, self._failed, self._scanned = _Pages(), _Pages(), _Pages()

    def read(self) -> Iterator[Item]:
        """Yield the items; UnreadableDocument if there is no text."""
        bookmarks = _bookmarks(self._document)
        held = self._sample()
        layout = find_layout({page: found.lines for page, found in held.items()}, bookmarks)
        prose = Prose(layout, bookmarks)
        failures, last = 0, len(self._document)
        for page in range(1, last + 1):
            found = held.pop(page) if page in held else self._open(page)
            if found is None:
                failures += 1
                if failures == _MOST_FAILURES:
                    self._failed.add(page, last)
                    break
                self._failed.add(page)
                continue
            failures = 0
            self._note(page, found)
            lines = layout.without_running(page, found.lines)
            yield from prose.add_page(page, in_reading_order(lines))
        yield from prose.finish()
        if not self._has_text:
            raise UnreadableDocument(self._why_empty())
        yield from self._remarks()

    def _sample(self) -> dict[int, PageLines]:
        """Read pages from all over the document, as many left ones as right ones."""
        pages = len(self._document)
        step = -(-pages // _SAMPLE_PAGES) | 1
        held: dict[int, PageLines] = {}
        lines = 0
        for page in range(1, pages + 1, step):
            found = self._open(page)
            if found is not None:
                held[page] = found
                lines += len(found.lines)
            if lines > _SAMPLE_LINES:
                break
        return held

    def _open(self, page: int) -> PageLines | None:
        """Return the lines of a page, None if it cannot be read."""
        try:
            opened = self._document[page - 1]
        except pdfium.PdfiumError:
            return None
        try:
            found = read_lines(opened)
            if not found.lines and _has_image(opened):
                self._scanned.add(page)
        except pdfium.PdfiumError:
            return None
        finally:
            opened.close()
        return found

    def _note(self, page: int, found: PageLines) -> None:
        self._has_text = self._has_text or bool(found.lines)
        if found.damaged:
            self._damage += found.damaged
            self._damaged.add(page)

    def _why_empty(self) -> str:
        if self._scanned.count:
            return "it holds no text; it seems to be scanned images"
        if self._failed.count == len(self._document):
            return "none of its pages can be read"
        if self._failed.count:
            return f"{self._failed} cannot be read, and the others hold no text"
        return "it holds no text"

    def _remarks(self) -> Iterator[Remark]:
        if self._failed.count:
            detail = f"{self._failed} cannot be read"
            yield Remark("skipped_part", detail, self._failed.place)
        if self._scanned.count:
            detail = f"{self._scanned} without text: it seems to be scanned images"
            yield Remark("skipped_part", detail, self._scanned.place)
        if self._damage:
            detail = f"{self._damage} damaged characters on {self._damaged}"
            yield Remark("damaged_text", detail, self._damaged.place)


def _open(path: Path) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        mended = _mended(path) if error.err_code == raw.FPDF_ERR_FORMAT else b""
        if not mended:
            raise UnreadableDocument(_refusal(error)) from error
    try:
        return pdfium.PdfDocument(mended)
    except pdfium.PdfiumError as error:
        raise UnreadableDocument(_refusal(error)) from error


def _mended(path: Path) -> bytes:
    """Return a document that lost its end with a new trailer; empty if nothing can be done.

    pdfium finds the objects of a damaged file by itself, but needs a trailer to begin with.
    """
    if path.stat().st_size > _MOST_MENDED_BYTES:
        return b""
    data = path.read_bytes()
    for catalog in _CATALOG.finditer(data):
        if numbers := _OBJECT.findall(data, max(0, catalog.start() - _TAIL_BYTES), catalog.start()):
            return data + b"\nendstream\nendobj\ntrailer\n<</Root %s %s R>>\n" % numbers[-1]
    return b""


def _bookmarks(document: pdfium.PdfDocument) -> dict[int, dict[str, int]]:
    """Return the outline levels of the bookmarked headings by page number and `plain` title."""
    found: dict[int, dict[str, int]] = {}
    for bookmark in islice(document.get_toc(max_depth=_DEEPEST_BOOKMARK), _MOST_BOOKMARKS):
        target = bookmark.get_dest()
        index = target.get_index() if target is not None else None
        if index is not None and (title := plain(bookmark.get_title())):
            found.setdefault(index + 1, {}).setdefault(title, BOOKMARK * (bookmark.level + 1))
    return found


def _has_image(page: pdfium.PdfPage) -> bool:
    images = page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE,), max_depth=3)
    return next(iter(images), None) is not None


def _has_header(path: Path) -> bool:
    with path.open("rb") as file:
        return b"%PDF-" in file.read(_TAIL_BYTES)


def _has_end(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return b"%%EOF" in file.read()


def _refusal(error: pdfium.PdfiumError) -> str:
    match error.err_code:
        case raw.FPDF_ERR_PASSWORD:
            return "it is encrypted: it opens with a password only"
        case raw.FPDF_ERR_SECURITY:
            return "it is encrypted in a way that cannot be read"
    return "it is not a sound PDF document: no page can be found"
