"""Readings that stop behind the first part of a document."""

from pathlib import Path

import pytest
from luthier_dataset.readers.__main__ import _read
from luthier_dataset.readers.items import load
from luthier_dataset.readers.job import Reading, ReadJob
from luthier_dataset.readers.kinds import Kind

MOST = 50_000
LONG = {
    Kind.TEXT: b"A fact of some length, no more.\n\n" * 4_000,
    Kind.MARKDOWN: b"# Leave\n\nEveryone gets 24 days.\n\n" * 4_000,
    Kind.JSONL: b'{"text": "A fact of some length"}\n' * 4_000,
    Kind.CSV: b"text,label\n" + b"A fact of some length,yes\n" * 4_000,
    Kind.JSON: b"[" + b",\n".join([b'{"text": "A fact of some length"}'] * 4_000) + b"]",
}


def read(folder: Path, kind: Kind, data: bytes, most_bytes: int) -> Reading:
    document, target = folder / "document", folder / "items.jsonl"
    document.write_bytes(data)
    return _read(ReadJob(kind, str(document), str(target), 60, 2**30, most_bytes))


@pytest.mark.parametrize("kind", LONG)
def test_reading_stops_and_says_how_much_it_read(tmp_path: Path, kind: Kind) -> None:
    data = LONG[kind]
    reading = read(tmp_path, kind, data, MOST)
    written = (tmp_path / "items.jsonl").read_bytes()
    assert reading.cuts == (0, len(written))
    # A section is written whole: that is what may come above.
    assert MOST <= len(written) < 8 * MOST
    last = load(written.splitlines()[-1])
    assert reading.share == last.place.end / len(data)
    assert read(tmp_path, kind, data, 0).items * reading.share == pytest.approx(
        reading.items, rel=0.1
    )


def test_a_short_document_is_read_whole(tmp_path: Path) -> None:
    assert read(tmp_path, Kind.TEXT, b"A fact.\n", MOST) == read(
        tmp_path, Kind.TEXT, b"A fact.\n", 0
    )


def test_where_the_share_cannot_be_told_all_is_read(tmp_path: Path) -> None:
    page = b"<p>A fact of some length, no more.</p>\n" * 4000
    reading = read(tmp_path, Kind.HTML, page, 1000)
    assert reading == read(tmp_path, Kind.HTML, page, 0)
    assert (reading.share, reading.cuts[-1] > MOST) == (1.0, True)


def test_rows_behind_many_malformed_ones_are_found(tmp_path: Path) -> None:
    data = b"{no json}\n" * 2000 + b'{"text": "A fact"}\n' + b"{no json}\n" * 2000
    reading = read(tmp_path, Kind.JSONL, data, 1000)
    assert (reading.unreadable, reading.items) == ("", 2001)
    assert reading.share == pytest.approx(0.5, abs=0.01)
