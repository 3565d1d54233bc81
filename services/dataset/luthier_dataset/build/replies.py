"""What models wrote for a build: recorded once, found again after a restart, replayed elsewhere.

A reply is found by what was asked: the model's digest, the prompt and the longest reply, not by
names, so that the record of one dataset serves another, and another machine.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from luthier_dataset.recipes.recipe import Ask, Reply

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Recorded(msgspec.Struct, frozen=True):
    """One line of a record of generations."""

    key: str
    reply: Reply


class Question(msgspec.Struct, frozen=True):
    """Something that a model is to be asked."""

    key: str
    ask: Ask


def key_of(ask: Ask, digest: str) -> str:
    """Return what a reply is found by; `digest` is that of the model asked."""
    digest_of = hashlib.sha256(f"{digest} {ask.max_tokens}\n".encode())
    digest_of.update(ask.prompt.encode("utf-8", "surrogatepass"))
    return digest_of.hexdigest()


class Replies:
    """The replies recorded in one file; safe for one writer and many readers."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self._database = sqlite3.connect(path, timeout=60, check_same_thread=False)
        if writable:
            # Survives the end of the process at any point; not that of the machine.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)

    def get(self, key: str) -> Reply | None:
        """Return a reply, None if there is none."""
        found = self._database.execute("SELECT reply FROM replies WHERE key = ?", [key]).fetchone()
        return msgspec.json.decode(found[0], type=Reply) if found else None

    def put(self, replies: Iterable[Recorded]) -> None:
        """Record replies durably; one that is there already stays."""
        rows = ((one.key, msgspec.json.encode(one.reply)) for one in replies)
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", rows)

    def load(self, path: Path) -> None:
        """Take over the replies of a record, as `lines` wrote it."""
        with path.open("rb") as lines:
            self.put(msgspec.json.decode(line, type=Recorded) for line in lines)

    def use(self, keys: Iterable[str]) -> None:
        """Note which replies went into the dataset; a record taken over may hold others."""
        with self._database:
            self._database.executemany(
                "INSERT OR IGNORE INTO used VALUES (?)", ([key] for key in keys)
            )

    def forget_used(self) -> None:
        """Take back all that `use` noted."""
        with self._database:
            self._database.execute("DELETE FROM used")

    def lines(self, *, unused: bool = False) -> Iterator[bytes]:
        """Yield the record of the replies that were used, or of all: a JSON line each, by key."""
        query = f"SELECT key, reply FROM replies {_joined(unused)} ORDER BY key"
        for key, reply in self._database.execute(query):
            recorded = Recorded(key, msgspec.json.decode(reply, type=Reply))
            yield msgspec.json.encode(recorded) + b"\n"

    def count(self, *, unused: bool = False) -> int:
        """Return the number of replies that were used, or of all."""
        query = f"SELECT count(*) FROM replies {_joined(unused)}"
        return int(self._database.execute(query).fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _joined(unused: bool) -> str:
    return "" if unused else "JOIN used USING (key)"


def write_questions(unit: Path, questions: Iterable[Question]) -> None:
    """Write down what a unit has to ask before it can make its rows."""
    lines = [msgspec.json.encode(question) for question in questions]
    unit.with_suffix(".asks").write_bytes(b"\n".join(lines))


def read_questions(unit: Path) -> list[Question]:
    """Return what a unit has to ask."""
    lines = unit.with_suffix(".asks").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Question) for line in lines]


def write_used(unit: Path, keys: Iterable[str]) -> None:
    """Write down which replies went into a unit's rows."""
    unit.with_suffix(".used").write_text("\n".join(keys))


def read_used(unit: Path) -> list[str]:
    """Return which replies went into a unit's rows."""
    return unit.with_suffix(".used").read_text().splitlines()
