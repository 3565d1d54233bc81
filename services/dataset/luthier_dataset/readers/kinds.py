"""The kinds of documents that can be read, and the reader of each.

Readers are named, not imported: a child process loads the one parser that it needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path, PurePath

from luthier_dataset.readers.items import Item

Read = Callable[[Path], Iterator[Item]]
"""Yields the items of a document in reading order; UnreadableDocument at any point."""


class Kind(StrEnum):
    """A kind of document."""

    PDF = "pdf"
    WORD = "word"
    SLIDES = "slides"
    SHEET = "sheet"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    JSON = "json"
    HTML = "html"
    MARKDOWN = "markdown"
    RESTRUCTURED = "restructured"
    TEXT = "text"
    EMAIL = "email"
    MAILBOX = "mailbox"
    ARCHIVE = "archive"
    CODE = "code"


_SUFFIXES = {
    ".pdf": Kind.PDF,
    ".docx": Kind.WORD,
    ".pptx": Kind.SLIDES,
    ".xlsx": Kind.SHEET,
    ".csv": Kind.CSV,
    ".tsv": Kind.TSV,
    ".parquet": Kind.PARQUET,
    ".jsonl": Kind.JSONL,
    ".ndjson": Kind.JSONL,
    ".json": Kind.JSON,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".rst": Kind.RESTRUCTURED,
    ".txt": Kind.TEXT,
    ".text": Kind.TEXT,
    ".eml": Kind.EMAIL,
    ".mbox": Kind.MAILBOX,
    ".zip": Kind.ARCHIVE,
    ".tar": Kind.ARCHIVE,
    ".tgz": Kind.ARCHIVE,
    ".tar.gz": Kind.ARCHIVE,
}
_MODULES = {
    Kind.PDF: "pdf",
    Kind.WORD: "word",
    Kind.SLIDES: "slides",
    Kind.SHEET: "sheet",
    Kind.CSV: "delimited",
    Kind.TSV: "delimited",
    Kind.PARQUET: "parquet",
    Kind.JSONL: "jsonl",
    Kind.JSON: "json_document",
    Kind.HTML: "html",
    Kind.MARKDOWN: "markdown",
    Kind.RESTRUCTURED: "restructured",
    Kind.TEXT: "text",
    Kind.EMAIL: "mail",
    Kind.MAILBOX: "mail",
    Kind.ARCHIVE: "archive",
    Kind.CODE: "source",
}
"""Each module has a function `read_<kind>(path)`; `source` has `read_code(path)`."""

_CODE = {
    *(".py", ".pyi", ".java", ".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".go", ".rs"),
    *(".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cs", ".php", ".rb", ".kt", ".kts"),
    *(".sql", ".sh", ".bash"),
}
SUPPORTED = ", ".join(sorted({*_SUFFIXES, *_CODE}))
"""The supported suffixes, for messages."""


def kind_of(display_name: str) -> Kind | None:
    """Return the kind a file claims to be, by its name; None if there is no reader for it."""
    suffixes = [suffix.lower() for suffix in PurePath(display_name).suffixes]
    for suffix in ("".join(suffixes[-2:]), "".join(suffixes[-1:])):
        if suffix in _SUFFIXES:
            return _SUFFIXES[suffix]
    return Kind.CODE if suffixes and suffixes[-1] in _CODE else None


def reader_of(kind: Kind) -> Read:
    """Import and return the reader of a kind."""
    module = importlib.import_module(f"luthier_dataset.readers.{_MODULES[kind]}")
    read: Read = getattr(module, f"read_{kind}")
    return read
