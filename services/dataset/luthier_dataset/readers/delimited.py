"""Reads tables as text: CSV (RFC 4180) in the dialects that programs write, and TSV.

The first row names the columns. The delimiter is one of `,`, `;`, tab and `|`, the quote `"` or
`'`; both are told from the first lines.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from luthier_dataset.readers.columns import column_names
from luthier_dataset.readers.encoding import Line, encoding_of, lines_of
from luthier_dataset.readers.items import Item, Place, Record, Remark, UnreadableDocument, hull

MAX_RECORD = 4 * 1024 * 1024
"""Characters of the longest record; longer ones are passed over."""
MAX_RECORD_LINES = 10_000

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_LINES = 100
_SAMPLE_LENGTH = 4_096
"""Characters of a line that are looked at to tell the dialect."""


def read_csv(path: Path) -> Iterator[Item]:
    """Yield a record for each row that has a value for each column, a remark for each other.

    Rows without any value are passed over. Values are strings.
    """
    return _read(path, _DELIMITERS)


def read_tsv(path: Path) -> Iterator[Item]:
    """Yield the rows as `read_csv` does; the delimiter is the tab."""
    return _read(path, ("\t",))


def _read(path: Path, delimiters: Sequence[str]) -> Iterator[Item]:
    csv.field_size_limit(MAX_RECORD)
    encoding = encoding_of(path)
    head = islice(lines_of(path, encoding), _SAMPLE_LINES)
    dialect = _dialect([one.text for one in head if isinstance(one, Line)], delimiters)
    lines = _Lines(lines_of(path, encoding))
    names: list[str] = []
    found = False
    for row in _rows(lines, dialect):
        if isinstance(row, Remark):
            yield row
        elif not names:
            names = column_names(row.values)
        elif len(row.values) != len(names):
            what = f"has {len(row.values)} values for {len(names)} columns"
            yield _malformed(what, row.place)
        else:
            found = True
            yield Record(dict(zip(names, row.values, strict=True)), place=row.place)
    if not found:
        raise UnreadableDocument("it has no row below the names of the columns")
    yield from lines.remarks


@dataclass(frozen=True)
class _Dialect:
    delimiter: str
    quote: str | None

    def reader(self, lines: Iterable[str], *, strict: bool) -> Iterator[list[str]]:
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            strict=strict,
        )


def _dialect(sample: Sequence[str], delimiters: Sequence[str]) -> _Dialect:
    """The dialect in which most rows are as wide as the first, and that is the widest."""
    lines = [line[:_SAMPLE_LENGTH] for line in sample]
    dialects = [_Dialect(delimiter, _quote(lines, delimiter)) for delimiter in delimiters]
    return max(dialects, key=lambda dialect: _fit(lines, dialect))


def _fit(lines: Sequence[str], dialect: _Dialect) -> tuple[bool, float, int]:
    rows = dialect.reader((f"{line}\n" for line in lines), strict=False)
    widths = [len(row) for row in rows if row] or [1]
    return widths[0] > 1, widths.count(widths[0]) / len(widths), widths[0]


def _quote(lines: Sequence[str], delimiter: str) -> str | None:
    opened, closed = {}, {}
    for quote in ('"', "'"):
        opened[quote] = sum(line.count(delimiter + quote) for line in lines)
        opened[quote] += sum(line.startswith(quote) for line in lines)
        closed[quote] = sum(line.count(quote + delimiter) for line in lines)
        closed[quote] += sum(line.endswith(quote) for line in lines)
    if not opened['"'] and 0 < opened["'"] == closed["'"]:
        return "'"
    # TSV proper (IANA text/tab-separated-values) knows no quotes; that of spreadsheets does.
    return None if delimiter == "\t" and opened['"'] and not closed['"'] else '"'


class _Row(NamedTuple):
    values: list[str]
    place: Place


class _TooLong(Exception):
    """A record is longer than may be held in memory."""


def _rows(lines: _Lines, dialect: _Dialect) -> Iterator[_Row | Remark]:
    """Yield the rows that hold a value, and remarks on what is no row.

    Of a record that cannot be read only the first line is passed over: a stray quote costs no
    other row. No line is read more often than twice for that, as what a quote has swallowed
    without its end has no other quote that could swallow more.
    """
    # Strict, as a stray quote would otherwise join values, or swallow the file, in silence.
    reader = dialect.reader(lines, strict=True)
    while True:
        lines.taken.clear()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _malformed(f"has a quote that is out of place ({error})", lines.taken[0].place)
            lines.give_back()
        except _TooLong:
            what = f"is longer than {MAX_RECORD} characters or {MAX_RECORD_LINES} lines"
            yield _malformed(what, lines.taken[0].place)
            lines.give_back()
        else:
            if any(values):
                yield _Row(values, lines.place)


class _Lines:
    """The lines of a file as the csv module takes them, one at a time."""

    def __init__(self, source: Iterable[Line | Remark]) -> None:
        self._source = iter(source)
        self._again: list[Line] = []
        self.taken: list[Line] = []
        """Lines of the record being read."""
        self.remarks: list[Remark] = []
        self._size = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._next()
        self._size = len(line.text) + (self._size if self.taken else 0)
        self.taken.append(line)
        if self._size > MAX_RECORD or len(self.taken) > MAX_RECORD_LINES:
            raise _TooLong
        return f"{line.text}\n"

    @property
    def place(self) -> Place:
        """Where the record being read stands."""
        return (
            self.taken[0].place if len(self.taken) == 1 else hull(line.place for line in self.taken)
        )

    def give_back(self) -> None:
        """Take the lines of this record again, but for the first."""
        self._again += reversed(self.taken[1:])

    def _next(self) -> Line:
        """The next line whole; of one that is too long, so much that it shows."""
        pieces: list[Line] = []
        size = 0
        for line in self._source:
            if isinstance(line, Remark):
                self.remarks.append(line)
                continue
            if line.ends and not pieces:
                return line
            if size <= MAX_RECORD:
                pieces.append(line)
                size += len(line.text)
            if line.ends:
                place = hull((pieces[0].place, line.place))
                return Line("".join(piece.text for piece in pieces), place, ends=True)
        raise StopIteration


def _malformed(what: str, place: Place) -> Remark:
    return Remark("malformed_row", f"line {place.line} {what}", place)
