"""Encodings: what the bytes of a text file stand for, and where each character stands in them."""

from __future__ import annotations

import codecs
import io
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import msgspec
from charset_normalizer import from_bytes

from luthier_dataset.readers.items import Place, Remark, UnreadableDocument

MAX_WHOLE_BYTES = 32 * 1024 * 1024
"""Formats that are parsed whole may be this large; larger files are refused."""
MAX_LINE = 256 * 1024
"""Characters; `lines_of` gives longer lines in pieces."""

_CHUNK = 1024 * 1024
_MARKS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
"""Bytes of a line end where that is not one."""
_WESTERN = "cp1252"
_CANDIDATES = [
    *(_WESTERN, "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("iso8859_2", "iso8859_5", "iso8859_7", "iso8859_15", "koi8_r", "mac_roman"),
    *("cp437", "cp850", "cp852", "cp866", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
"""Encodings that are guessed. In each, ASCII stands for itself and no state is kept, so that byte
ranges can be told."""
_SAMPLE = 32 * 1024
"""Bytes that a guess looks at."""
_TELLING = re.compile(rb"[0-9@-\x7f]*(?:[\x80-\xff]+[0-9@-\x7f]*)+")
"""The words that say something about the encoding; any byte but the first of a character of the
East Asian encodings is in these classes."""
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Control characters that text has no use for."""
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes that could not be decoded, as `surrogateescape` (PEP 383) gives them."""
_WIDE_DAMAGE = re.compile("[\0\ufffd]")
_STRIDE = 4096
"""Characters between two known offsets; bounds the cost of finding one."""


@dataclass(frozen=True)
class Encoding:
    """The encoding of a file."""

    name: str
    """Python's name of the codec; it knows nothing of the mark."""
    bom: int = 0
    """Bytes of the byte order mark."""
    guessed: bool = False
    """Neither a mark nor the bytes themselves prove it."""

    @cached_property
    def unit(self) -> int:
        """Bytes of a line feed."""
        return _WIDE.get(self.name, 1)

    @property
    def errors(self) -> str:
        """The error handler under which `width` is exact."""
        return "replace" if self.unit > 1 else "surrogateescape"

    def width(self, text: str) -> int:
        """Return the bytes that a text takes, as it was decoded with `errors`."""
        if self.unit == 1 and text.isascii():
            return len(text)
        return len(text.encode(self.name, self.errors))

    def remarks(self) -> Iterator[Remark]:
        """Say that the encoding is a guess, if it is one."""
        if self.guessed:
            yield Remark("guessed_encoding", f"the text is read as {self.name}, by its letters")


class Line(msgspec.Struct, frozen=True):
    """A line of a file, or a piece of a long one."""

    text: str
    """Without its end."""
    place: Place
    """Its number and its bytes, without the line end."""
    ends: bool
    """False if more of the same line follows."""


def encoding_of(path: Path) -> Encoding:
    """Return the encoding of a text file, read in pieces; UnreadableDocument if it is no text.

    A mark decides, then whether the bytes are UTF-8, then a guess. UTF-8 with damage is told from
    other encodings by its sound characters: where they outnumber the bad bytes, it is UTF-8.
    """
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
        encoding = _marked(head) or _wide(head)
        if encoding and encoding.unit > 1:
            return encoding
        file.seek(0)
        scan = _scan(file)
        if encoding or scan.bad == 0 or scan.sound > scan.bad:
            return encoding or Encoding("utf-8")
        file.seek(max(0, scan.first_bad - _SAMPLE // 2))
        return _guess(file.read(_SAMPLE))


def lines_of(path: Path, encoding: Encoding) -> Iterator[Line | Remark]:
    """Yield the lines of a file, read in pieces.

    A line of more than MAX_LINE characters comes in several pieces of the same number. What
    cannot be decoded becomes U+FFFD; remarks on that, and on a guess, come last.
    """
    damage = _Damage(encoding)
    size = path.stat().st_size
    at, number = encoding.bom, 1
    with path.open("rb") as file:
        file.seek(at)
        for raw, end in _raw_lines(file, encoding):
            # Most lines are plain: they pay for none of this.
            plain = encoding.unit == 1 and raw.isascii()
            width = len(raw) if plain else encoding.width(raw)
            place = Place("", 0, 0, number, number, at, min(at + width, size))
            text, first = (raw, -1) if plain else damage.mend(raw)
            if first >= 0 and damage.place == Place():
                damage.place = place
            yield Line(text, place, end is not None)
            at += width
            if end is not None:
                at += len(end) * encoding.unit
                number += 1
    yield from encoding.remarks()
    yield from damage.remarks()


class Decoded:
    """The text of a file and the places of its characters.

    `text` has `\\n` as line ends, and U+FFFD for what could not be decoded; `remarks` says how
    much that was, and whether the encoding is a guess.
    """

    def __init__(self, data: bytes, encoding: Encoding) -> None:
        self.encoding = encoding
        raw = data[encoding.bom :].decode(encoding.name, encoding.errors)
        ends = (match.start() - number for number, match in enumerate(re.finditer("\r\n", raw)))
        self._crlf = array("I", ends if "\r\n" in raw else ())
        self._raw = raw.replace("\r\n", "\n").replace("\r", "\n")
        self._size = len(data)
        damage = _Damage(encoding)
        self.text, first = damage.mend(self._raw)
        if first >= 0:
            damage.place = self.place(first, first + 1)
        self.remarks = (*encoding.remarks(), *damage.remarks())

    def byte(self, offset: int) -> int:
        """Return the byte at which the character `text[offset]` begins."""
        before = offset - offset % _STRIDE
        width = self._widths[offset // _STRIDE] + self.encoding.width(self._raw[before:offset])
        shift = bisect_left(self._crlf, offset) * self.encoding.unit
        return min(self.encoding.bom + width + shift, self._size)

    def line(self, offset: int) -> int:
        """Return the number of the line, from 1, in which the character `text[offset]` stands."""
        return bisect_right(self._lines, offset)

    def line_start(self, line: int) -> int:
        """Return the offset at which a line, counted from 1, begins; of the end if it is beyond."""
        return self._lines[line - 1] if line <= len(self._lines) else len(self.text)

    def place(self, start: int, end: int) -> Place:
        """Return the place of the characters `text[start:end]`."""
        return Place(
            line=self.line(start),
            last_line=self.line(max(start, end - 1)),
            start=self.byte(start),
            end=self.byte(end),
        )

    def lines_place(self, first: int, last: int) -> Place:
        """Return the place of the lines from `first` to `last`, without white space around them."""
        start, end = self.line_start(first), self.line_start(last + 1)
        lines = self.text[start:end]
        start += len(lines) - len(lines.lstrip())
        return self.place(start, max(start, end - len(lines) + len(lines.rstrip())))

    @cached_property
    def _widths(self) -> array[int]:
        """Bytes before each full stride of the text, line ends counted as one unit."""
        widths = array("I", (0,))
        for start in range(0, len(self._raw), _STRIDE):
            widths.append(widths[-1] + self.encoding.width(self._raw[start : start + _STRIDE]))
        return widths

    @cached_property
    def _lines(self) -> array[int]:
        """The offset at which each line begins."""
        return array("I", (0, *(match.end() for match in re.finditer("\n", self.text))))


def decode_file(path: Path, most: int = MAX_WHOLE_BYTES) -> Decoded:
    """Return the text of a file of at most `most` bytes; UnreadableDocument for any other."""
    size = path.stat().st_size
    if size > most:
        raise UnreadableDocument(f"it has {size} bytes; files of its kind may have {most} at most")
    return Decoded(path.read_bytes(), encoding_of(path))


class _Damage:
    """Replaces what could not be decoded, and counts it."""

    def __init__(self, encoding: Encoding) -> None:
        self.count = 0
        self.place = Place()
        """Of the first damage."""
        # In wide encodings the decoder itself has put U+FFFD for each bad unit.
        self._pattern = _WIDE_DAMAGE if encoding.unit > 1 else _ESCAPED
        self._name = encoding.name

    def mend(self, text: str) -> tuple[str, int]:
        """Return the text with U+FFFD for each bad byte, and where the first is; -1 for none."""
        match = None if text.isascii() and "\0" not in text else self._pattern.search(text)
        if not match:
            return text, -1
        text, found = self._pattern.subn("\ufffd", text)
        self.count += found
        return text, match.start()

    def remarks(self) -> Iterator[Remark]:
        if self.count:
            detail = f"{self.count} bytes or units are no {self._name}; each is read as U+FFFD"
            yield Remark("damaged_text", detail, self.place)


def _raw_lines(file: IO[bytes], encoding: Encoding) -> Iterator[tuple[str, str | None]]:
    """Yield lines as decoded and their ends, "" for that of the file; pieces of long ones: None."""
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    rest = ""
    while chunk := file.read(_CHUNK):
        # With newline="" StringIO ends lines at \n, \r and \r\n, and leaves them as they are.
        # The last may go on in the next chunk, even if it ends: its \r may be half of an \r\n.
        lines = list(io.StringIO(rest + decoder.decode(chunk), newline=""))
        rest = lines.pop() if lines else ""
        for line in lines:
            yield from _in_pieces(line)
        if len(rest) > _CHUNK:
            *pieces, (body, end) = _in_pieces(rest)
            yield from pieces
            rest = body + (end or "")
    for line in io.StringIO(rest + decoder.decode(b"", final=True), newline=""):
        yield from _in_pieces(line)


def _in_pieces(line: str) -> list[tuple[str, str | None]]:
    body = line.rstrip("\r\n")
    end = line[len(body) :]
    pieces: list[tuple[str, str | None]] = []
    while len(body) > MAX_LINE:
        cut = body.rfind(" ", MAX_LINE // 2, MAX_LINE) + 1 or MAX_LINE
        pieces.append((body[:cut], None))
        body = body[cut:]
    pieces.append((body, end))
    return pieces


def _marked(head: bytes) -> Encoding | None:
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name, len(mark))
    return None


def _wide(head: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark: western text has a NUL in the same place of each unit."""
    if b"\0" not in head:
        return None
    for name, unit in _WIDE.items():
        whole = head[: len(head) - len(head) % 4]
        high = slice(unit - 1, None, unit) if name.endswith("le") else slice(0, None, unit)
        low = slice(0, None, unit) if name.endswith("le") else slice(unit - 1, None, unit)
        if whole and 2 * whole[high].count(0) > len(whole[high]) and 0 not in whole[low]:
            return Encoding(name, guessed=True)
    return None


@dataclass
class _Scan:
    """What reading a file as UTF-8 shows."""

    sound: int = 0
    """Characters beyond ASCII."""
    bad: int = 0
    """Bytes that are not part of a character."""
    first_bad: int = 0
    """Where bad bytes begin, roughly."""


def _scan(file: IO[bytes]) -> _Scan:
    scan = _Scan()
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    at = 0
    while True:
        chunk = file.read(_CHUNK)
        if (nul := chunk.find(0)) >= 0:
            raise UnreadableDocument(f"it is not text: byte {at + nul + 1} is NUL")
        text = decoder.decode(chunk, final=not chunk)
        if not text.isascii():
            bad = len(_ESCAPED.findall(text))
            # A lone surrogate written as if it were a character is a mistake of UTF-8 writers.
            lone = len(_SURROGATE.findall(chunk)) if bad else 0
            if (first := _ESCAPED.search(text)) and not scan.bad:
                scan.first_bad = at + len(text[: first.start()].encode())
            scan.sound += len(text) - len(text.encode("ascii", "ignore")) - bad + 4 * lone
            scan.bad += bad
        if not chunk:
            return scan
        at += len(chunk)


def _guess(sample: bytes) -> Encoding:
    found = from_bytes(b" ".join(_TELLING.findall(sample)), cp_isolation=_CANDIDATES)
    best = found.best()
    if best is None or 20 * len(_CONTROL.findall(sample)) > len(sample):
        raise UnreadableDocument("it is not text in any encoding that is known here")
    for match in found:
        # Short western texts fit several encodings equally well; this is by far the commonest.
        if _WESTERN in match.could_be_from_charset and match.coherence >= best.coherence:
            return Encoding(_WESTERN, guessed=True)
    return Encoding(best.encoding, guessed=True)
