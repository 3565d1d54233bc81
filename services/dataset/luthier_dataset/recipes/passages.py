"""Cuts documents into the passages that the text recipes work on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import msgspec
from luthier.dataset.v1.recipe_pb2 import Chunking

from luthier_dataset.chunks import exact_chunks, fitting_chunks, part_of
from luthier_dataset.cohesion import semantic_chunks
from luthier_dataset.readers.items import (
    NOWHERE,
    Block,
    BlockKind,
    CodeFile,
    Item,
    Message,
    Place,
    Record,
    Remark,
    Section,
    block_text,
)
from luthier_dataset.recipes.recipe import Document
from luthier_dataset.sentences import split_sentences
from luthier_dataset.tokens import TokenCounter

DEFAULT_TOKENS = 256
SEMANTIC_SHARE = 8
"""SEMANTIC chunks have at least this part of the most tokens, unless configured."""


class Part(NamedTuple):
    """A passage of a document."""

    text: str
    heading_path: tuple[str, ...]
    place: Place


@dataclass(frozen=True)
class Text:
    """Blocks that belong together; they can be read once, before the next text is."""

    heading_path: tuple[str, ...]
    blocks: Iterator[Block]

    def lines(self) -> Iterator[tuple[str, Place]]:
        """Yield the text line by line."""
        for block in self.blocks:
            yield from lines_of(block)


def texts(items: Iterable[Item]) -> Iterator[Text]:
    """Yield the texts of a document: a section, a record, a message or a source file each.

    Pieces of a section that follow one another under one path are one text.
    """
    pieces = (
        piece for number, item in enumerate(items) if (piece := _piece(number, item)) is not None
    )
    for (path, _, _), group in groupby(pieces, key=lambda piece: piece[0]):
        yield Text(path, (block for _, blocks in group for block in blocks))


def passages(
    document: Document,
    chunking: Chunking,
    tokenizer: TokenCounter,
    default: Chunking.Boundary = Chunking.SECTION,
) -> Iterator[Part]:
    """Yield the passages of a document, in order, cut as configured; none is blank."""
    tokens = chunking.tokens or DEFAULT_TOKENS
    found = texts(document.items())
    match chunking.boundary or default:
        case Chunking.SEMANTIC:
            sections = ((text.heading_path, text.blocks) for text in found)
            least = tokens // SEMANTIC_SHARE
            for chunk in semantic_chunks(sections, tokenizer, tokens, least):
                yield Part(chunk.text, chunk.heading_path, chunk.place)
        case Chunking.FIXED:
            for text in found:
                for exact in exact_chunks(
                    with_breaks(text.lines()), tokenizer, tokens, chunking.overlap_tokens
                ):
                    if exact.text.strip():
                        yield Part(exact.text, text.heading_path, exact.place)
        case Chunking.STATEMENT:
            for text in found:
                for block in text.blocks:
                    for statement, place in _statements(block):
                        yield Part(statement, text.heading_path, place)
        case _:
            for text in found:
                for part, place in fitting_chunks(text.lines(), tokenizer, tokens):
                    if part.strip():
                        yield Part(part, text.heading_path, place)


def check_chunking(chunking: Chunking, field: str) -> None:
    """Raise ValueError for an overlap that cannot be."""
    fixed = chunking.boundary == Chunking.FIXED
    if chunking.overlap_tokens and not fixed:
        raise ValueError(f"{field}.overlap_tokens: only FIXED chunks can overlap")
    if chunking.overlap_tokens >= (chunking.tokens or DEFAULT_TOKENS):
        raise ValueError(f"{field}.overlap_tokens: must be less than the tokens of a chunk")


def record_text(record: Record) -> str:
    """Return a record as text: `column: value`, one a line, empty values left out."""
    return "\n".join(
        f"{column}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for column, value in record.fields.items()
        if value is not None and value != ""
    )


def lines_of(block: Block) -> Iterator[tuple[str, Place]]:
    """Yield the lines of a block, each at its own place where the block's is exact."""
    text = block_text(block)
    if "\n" not in text:
        yield text, block.place
        return
    at = 0
    for number, line in enumerate(text.split("\n")):
        place = part_of(block.place, text, at, at + len(line))
        if place != block.place and place.line:
            row = place.line + number
            place = msgspec.structs.replace(place, line=row, last_line=row)
        yield line, place
        at += len(line) + 1


def with_breaks(lines: Iterable[tuple[str, Place]]) -> Iterator[tuple[str, Place]]:
    """Put a line break between lines."""
    for number, line in enumerate(lines):
        if number:
            yield "\n", NOWHERE
        yield line


_Key = tuple[tuple[str, ...], str, int]
"""Heading path, member of an archive, and the item's number unless it is a piece of a section."""


def _piece(number: int, item: Item) -> tuple[_Key, tuple[Block, ...]] | None:
    """Return what text an item belongs to, and its blocks; None if it holds no text."""
    match item:
        case Section():
            return (item.heading_path, item.place.member, -1), item.blocks
        case Record():
            path, kind, found = item.heading_path, BlockKind.TABLE_ROW, [record_text(item)]
        case Message():
            path = (item.thread,) if item.thread else ()
            kind, found = BlockKind.PARAGRAPH, item.text.split("\n")
        case CodeFile():
            path, kind, found = (item.path,), BlockKind.VERBATIM, [item.text]
        case Remark():
            return None
    blocks = tuple(Block(kind, text, item.place) for text in found if text.strip())
    return ((path, item.place.member, number), blocks) if blocks else None


def _statements(block: Block) -> Iterator[tuple[str, Place]]:
    """Yield the sentences of prose and the rows of tables; code and the like states nothing."""
    if block.kind is BlockKind.VERBATIM:
        return
    if block.kind is BlockKind.TABLE_ROW:
        yield block.text, block.place
        return
    at = 0
    for sentence in split_sentences(block.text):
        at = block.text.index(sentence, at)
        yield sentence, part_of(block.place, block.text, at, at + len(sentence))
        at += len(sentence)
