"""Search in the corpus: BM25 (Robertson and Zaragoza 2009) by SQLite's FTS5, one file on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import msgspec

from luthier_dataset.recipes.recipe import Origin, Passage
from luthier_dataset.stopwords import WORD, stop_words

_MOST_TERMS = 32
_CACHE_KIB = 16 * 1024

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Origin)


def build_index(path: Path, passages: Iterable[tuple[str, Passage]]) -> int:
    """Write passages, each with its group, to a new index file and return how many.

    Numbers follow their order.
    """
    connection = sqlite3.connect(path)
    try:
        # A build that is cut short starts over, so nothing is journalled.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(
            "CREATE VIRTUAL TABLE passages USING fts5("
            "text, origin UNINDEXED, together UNINDEXED, "
            "tokenize = 'unicode61 remove_diacritics 2')"
        )
        rows = (
            (passage.text, _encoder.encode(passage.origin), group) for group, passage in passages
        )
        count = connection.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows).rowcount
        connection.execute("INSERT INTO passages(passages) VALUES ('optimize')")
        connection.commit()
        return max(count, 0)
    finally:
        connection.close()


class Index:
    """An index opened for reading."""

    def __init__(self, path: Path) -> None:
        # Any thread may search: SQLite itself takes care of order.
        self._connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")

    def search(self, query: str, most: int, group: str = "") -> list[Passage]:
        """Return the passages that fit a query in plain words best, best first.

        Of passages that fit equally well, the earlier comes first. With `group`, only those of it.
        """
        match = _match(query)
        if not match:
            return []
        found = self._connection.execute(
            "SELECT text, origin FROM passages WHERE passages MATCH ? AND ? IN ('', together) "
            "ORDER BY bm25(passages), rowid LIMIT ?",
            (match, group, most),
        )
        return [Passage(text, _decoder.decode(origin)) for text, origin in found]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _match(query: str) -> str:
    """Return the terms of a query as FTS5 takes them: quoted, any of them."""
    stops = stop_words(query)
    terms = dict.fromkeys(match[0].casefold() for match in WORD.finditer(query))
    wanted = [term for term in terms if term not in stops] or list(terms)
    return " OR ".join(f'"{term}"' for term in wanted[:_MOST_TERMS])
