"""What readers make of a document: a stream of items, each with the place it stands at.

Items cross the process boundary as JSON Lines, so a document larger than memory passes through.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where something stands in a document. Numbers count from 1; 0 means that there is none."""

    member: str = ""
    """Path inside an archive; empty for the document itself."""
    page: int = 0
    """First page, slide or sheet."""
    last_page: int = 0
    line: int = 0
    """First line: of the member, of the document, or row of the sheet."""
    last_line: int = 0
    start: int = 0
    """First byte, from 0: of the member or document where that is text; of the UTF-8 text read
    from it, in reading order, where it is not (PDF, DOCX, PPTX, XLSX, Parquet)."""
    end: int = 0
    """Behind the last byte; 0 means that the range is not known."""


NOWHERE = Place()


class BlockKind(StrEnum):
    """What a block of prose is."""

    PARAGRAPH = "p"
    BULLET = "li"
    TABLE_ROW = "tr"
    VERBATIM = "pre"


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A paragraph, a list item, a row of a table (`a | b`) or lines that keep their shape."""

    kind: BlockKind
    text: str
    """One line, but for VERBATIM."""
    place: Place = NOWHERE


class Section(msgspec.Struct, frozen=True, tag="section"):
    """The text between two headings; a long one comes in several pieces under the same path."""

    heading_path: tuple[str, ...]
    """Headings above the text, outermost first; empty before the first heading."""
    blocks: tuple[Block, ...]
    """At least one, none without text."""

    @property
    def text(self) -> str:
        """The blocks, one a line, bullets marked by `- `."""
        return "\n".join(block_text(block) for block in self.blocks)

    @property
    def place(self) -> Place:
        """From the first block to the last."""
        return hull(block.place for block in self.blocks)


class Record(msgspec.Struct, frozen=True, tag="record"):
    """A row of a table or a line of rows: named fields."""

    fields: dict[str, Any]
    """JSON values by column name, in the order of the columns."""
    heading_path: tuple[str, ...] = ()
    """The sheet or table, where it has a name."""
    place: Place = NOWHERE


class Message(msgspec.Struct, frozen=True, tag="message"):
    """One message of a log or one e-mail."""

    sender: str
    text: str
    time: float | None = None
    """Seconds since 1970 UTC; None if the log does not say."""
    thread: str = ""
    """Channel, subject or thread; messages of different threads never share a conversation."""
    place: Place = NOWHERE


class CodeUnit(msgspec.Struct, frozen=True):
    """A function, method or class of a source file."""

    kind: str
    """`function`, `method`, `class`, or `statement` for SQL's `CREATE …`."""
    name: str
    """Qualified inside the file by `.`: `Stack.push`."""
    signature: str
    """The declaration up to the body, one line."""
    source: str
    """The unit as it stands, its doc comment and decorators included."""
    doc: str = ""
    """Docstring or doc comment, without its marks."""
    comments: tuple[str, ...] = ()
    """Other comments inside or right above, without their marks."""
    place: Place = NOWHERE


class CodeFile(msgspec.Struct, frozen=True, tag="code"):
    """A source file of a code base."""

    path: str
    language: str
    """Such as `python`; empty for a text that is no known language (a README, a Makefile)."""
    text: str
    units: tuple[CodeUnit, ...] = ()
    """In the order of the file; methods after their class."""
    place: Place = NOWHERE


class Remark(msgspec.Struct, frozen=True, tag="remark"):
    """Something about the document that its owner should know; the document is read all the same.

    Codes: `malformed_row`, `skipped_member`, `skipped_part`, `damaged_text`, `guessed_encoding`.
    """

    code: str
    detail: str
    """For people: what, and why."""
    place: Place = NOWHERE


Item = Section | Record | Message | CodeFile | Remark
MAX_SECTION_BYTES = 64 * 1024
"""Readers cut longer sections, between blocks where that is possible."""


class UnreadableDocument(Exception):
    """The document is not what it claims to be; the message is fit for its owner."""


def block_text(block: Block) -> str:
    """Return a block as it stands in a section's text."""
    return f"- {block.text}" if block.kind is BlockKind.BULLET else block.text


def hull(places: Iterable[Place]) -> Place:
    """Return the place from the first to the last of some places in one document, in order."""
    known = list(places)
    if not known:
        return NOWHERE
    first, last = known[0], known[-1]
    return Place(
        first.member,
        first.page,
        last.last_page or last.page,
        first.line,
        last.last_line or last.line,
        first.start,
        last.end,
    )


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Item)


def dump(item: Item) -> bytes:
    """Return an item's line, `\\n` included; lone surrogates become U+FFFD."""
    try:
        return _encoder.encode(item) + b"\n"
    except UnicodeEncodeError:
        return _encoder.encode(_mended(msgspec.to_builtins(item))) + b"\n"


def load(line: bytes) -> Item:
    """Return the item of a line that `dump` wrote."""
    item: Item = _decoder.decode(line)
    return item


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_mended(key): _mended(one) for key, one in value.items()}
        case list() | tuple():
            return [_mended(one) for one in value]
    return value
