"""Reads e-mails (RFC 5322, MIME) and mailboxes (mbox, RFC 4155) as messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from pathlib import Path
from typing import IO, Any

from luthier_dataset.readers.encoding import MAX_WHOLE_BYTES
from luthier_dataset.readers.html import text_of
from luthier_dataset.readers.items import Item, Message, Place, Remark, UnreadableDocument
from luthier_dataset.readers.replies import without_quotes

MAX_BYTES = MAX_WHOLE_BYTES
"""Of one e-mail, attachments included; a larger one is refused, or left out of a mailbox."""
_MAX_PARTS = 64
"""Multiparts of an e-mail: the parser looks for the end of each at every line."""
_MAX_LINES = 1_000_000
_MULTIPART = re.compile(rb"multipart/|message/", re.IGNORECASE)
_MAX_HEADER = 1024
"""Characters; the rest of a longer header is left out, as its grammar takes the parser long."""
_PIECE = 64 * 1024
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
"""How mailboxes write a line that begins with `From ` (the `mboxrd` variant)."""
_REPLY = re.compile(
    r"(?:(?:re|aw|fwd?|wg|sv|vs|antw|tr|rif|ref|rv)(?:\[\d+\])?\s*:\s*)+", re.IGNORECASE
)
_NO_CHARSET = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"}
"""Python's codecs that no mail is written in."""
_MAX_NAMES = 5
_QUOTES = "blockquote, .gmail_quote, .gmail_signature, .moz-cite-prefix, #divRplyFwdMsg"
"""Where mail programs put what is answered to, in HTML."""


def read_email(path: Path) -> Iterator[Item]:
    """Yield the message of an e-mail, without what it quotes and its signature.

    The thread is the subject without `Re:`; the range is that of the file. Attachments are left
    out; a remark names them. UnreadableDocument: too large, or no e-mail.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnreadableDocument(f"it has {size} bytes; an e-mail may have {MAX_BYTES} at most")
    data = path.read_bytes()
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    yield from _read(data, Place(line=1, last_line=lines, start=0, end=size))


def read_mailbox(path: Path) -> Iterator[Item]:
    """Yield the messages of a mailbox, read one at a time; ranges are without the `From ` lines.

    A message that cannot be read is left out; a remark says why.
    """
    with path.open("rb") as file:
        for data, place in _messages(file):
            try:
                if data is None:
                    raise UnreadableDocument(f"an e-mail may have {MAX_BYTES} bytes at most")
                yield from _read(_QUOTED_FROM.sub(rb"\1", data), place)
            except UnreadableDocument as error:
                yield Remark("skipped_part", f"a message is left out: {error}", place)


@dataclass
class _Raw:
    """A message of a mailbox while it is read."""

    line: int
    start: int
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, line: bytes) -> None:
        self.size += len(line)
        if self.size > MAX_BYTES:
            self.lines.clear()
        else:
            self.lines.append(line)

    def done(self, last_line: int) -> tuple[bytes | None, Place]:
        place = Place(
            line=self.line, last_line=last_line, start=self.start, end=self.start + self.size
        )
        return (None if self.size > MAX_BYTES else b"".join(self.lines)), place


def _messages(file: IO[bytes]) -> Iterator[tuple[bytes | None, Place]]:
    """Yield the messages with their places; None for one that is too large."""
    raw: _Raw | None = None
    number = at = 0
    fresh, blank = True, True
    # Lines come in pieces, so that a file without a line end is not read whole.
    while line := file.readline(_PIECE):
        number += fresh
        if fresh and blank and line.startswith(b"From "):
            if raw:
                yield raw.done(number - 1)
            raw = _Raw(number + 1, at + len(line))
        elif raw:
            raw.add(line)
        elif line.strip():
            raise UnreadableDocument("it is not a mailbox: it does not begin with `From `")
        at += len(line)
        blank = fresh and not line.strip(b"\r\n")
        fresh = line.endswith(b"\n")
    if raw:
        yield raw.done(number)


class _Policy(policy.EmailPolicy):
    """Cuts headers while they are read."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_MAX_HEADER]


_PARSER = BytesParser(EmailMessage, policy=_Policy())


def _read(data: bytes, place: Place) -> Iterator[Item]:
    if len(_MULTIPART.findall(data)) > _MAX_PARTS or data.count(b"\n") > _MAX_LINES:
        raise UnreadableDocument(
            f"an e-mail may have {_MAX_PARTS} nested parts and {_MAX_LINES} lines at most"
        )
    try:
        message = _PARSER.parsebytes(data)
        assert isinstance(message, EmailMessage)
        sender = _sender(message)
        text, left_out = _text(message), _left_out(message)
    except UnreadableDocument:
        raise
    except Exception as error:
        # The standard library's parser fails on broken messages in many ways, RecursionError,
        # IndexError and AssertionError among them.
        raise UnreadableDocument("its structure cannot be made out") from error
    if not sender:
        raise UnreadableDocument("it is no e-mail: it does not say whom it is from")
    if text:
        yield Message(sender, text, _time(message), _thread(message), place)
    else:
        yield Remark("skipped_part", "the message has no text of its own", place)
    if left_out:
        yield Remark("skipped_part", f"attachments are left out: {left_out}", place)


def _header(message: EmailMessage, name: str) -> Any:
    """A header; None if it is missing or its grammar makes the parser fail."""
    try:
        return message[name]
    except Exception:
        return None


def _sender(message: EmailMessage) -> str:
    """The name of who wrote it, else the address."""
    for name in ("From", "Sender"):
        header = _header(message, name)
        for address in getattr(header, "addresses", ()):
            if found := _printable(address.display_name or address.addr_spec.strip("<>")):
                return found
    return ""


def _thread(message: EmailMessage) -> str:
    return _REPLY.sub("", _printable(_header(message, "Subject") or ""), count=1)


def _time(message: EmailMessage) -> float | None:
    moment = getattr(_header(message, "Date"), "datetime", None)
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _printable(text: str) -> str:
    """A header's value on one line; raw bytes in it are read as UTF-8."""
    raw = str(text).encode("utf-8", "surrogateescape")
    return " ".join(raw.decode("utf-8", "replace").replace("\0", " ").split())


def _text(message: EmailMessage) -> str:
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    text = _decoded(body)
    if body.get_content_subtype() == "html":
        text = text_of(text, without=_QUOTES)
    return without_quotes(text)


def _decoded(part: MIMEPart) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    charset = part.get_content_charset("utf-8")
    try:
        text = data.decode("utf-8" if charset in _NO_CHARSET else charset, "replace")
    except (LookupError, ValueError):
        text = data.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _left_out(message: EmailMessage) -> str:
    """The attachments, by name, else by type."""
    if not message.is_multipart():
        return ""
    names = [
        _printable(part.get_filename() or part.get_content_type())
        for part in message.iter_attachments()
    ]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
