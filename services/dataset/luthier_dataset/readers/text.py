"""Reads plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from luthier_dataset.readers.section import Outline, Section, UnreadableDocument

_FRONT_MATTER = re.compile(r"\A---\n.*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


def read_text(path: Path) -> list[Section]:
    """Return the paragraphs of a plain text as one section; blank lines part paragraphs."""
    outline = Outline()
    for paragraph in re.split(r"\n\s*\n", decode(path)):
        outline.prose(paragraph)
    return outline.sections()


def read_markdown(path: Path) -> list[Section]:
    """Return the sections of a CommonMark document with tables; raw HTML is left out."""
    outline = Outline()
    source = _FRONT_MATTER.sub("", decode(path))
    tokens = iter(MarkdownIt("commonmark").enable("table").parse(source))
    lists = 0
    for token in tokens:
        match token.type:
            case "heading_open":
                outline.heading(int(token.tag.removeprefix("h")), _inline(next(tokens)))
            case "list_item_open" | "list_item_close":
                lists += token.nesting
            case "tr_open":
                outline.table_row(_cells(tokens))
            case "fence" | "code_block":
                outline.verbatim(token.content)
            case "inline":
                outline.prose(_inline(token), bullet=lists > 0)
    return outline.sections()


def decode(path: Path) -> str:
    """Return the text of a file, line ends as `\\n`; refuse what is not UTF-8 text."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"it is not UTF-8 text (byte {error.start + 1})") from error
    if "\0" in text:
        raise UnreadableDocument("it is not text: it contains NUL characters")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cells(tokens: Iterator[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "tr_close":
            return
        if token.type == "inline":
            yield _inline(token)


def _inline(token: Token) -> str:
    """The text of an inline token without its marks."""
    parts = []
    for child in token.children or []:
        match child.type:
            case "text" | "code_inline" | "image":
                parts.append(child.content)
            case "softbreak" | "hardbreak":
                parts.append(" ")
    return "".join(parts)
