"""The folder of a build: what is finished there stays finished, whatever dies.

model/                 tokenizer and chat template of the base model
items/00000.jsonl      the items of source 0, and its `.done`: a `Reading`
index.sqlite           passages for search
replies.sqlite         what models wrote
units/00000-00000-000  rows of recipe 0, source 0, part 0; `.done`: a `UnitMade`
out/                   the finished artifacts
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")
_VERSION = "version"
ROWS, KEYS, SIGNATURES, USED = ".rows", ".keys", ".signatures", ".used"
"""Suffixes of a unit's files."""


class Workspace:
    """The paths of one build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model"
        self.index = folder / "index.sqlite"
        self.replies = folder / "replies.sqlite"
        self.out = folder / "out"

    def open(self, version: str) -> None:
        """Make the folder; what another version of the code left there is thrown away."""
        mark = self.folder / _VERSION
        if self.folder.exists() and (not mark.exists() or mark.read_text() != version):
            self._clear()
        for part in ("model", "items", "units", "out"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        write_whole(mark, version.encode())

    def _clear(self) -> None:
        """Throw away all but what models wrote, which does not depend on our code."""
        for part in self.folder.iterdir():
            if part.is_dir():
                shutil.rmtree(part)
            elif not part.name.startswith(self.replies.name):
                part.unlink()

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def items(self, source: int) -> Path:
        """Return where the items of a source are."""
        return self.folder / "items" / f"{source:05d}.jsonl"

    def unit(self, recipe: int, source: int, part: int) -> Path:
        """Return the path, without suffix, of a unit's files."""
        return self.folder / "units" / f"{recipe:05d}-{source:05d}-{part:05d}"


def finish(path: Path, outcome: msgspec.Struct) -> None:
    """Note that what `path` names is done, with its outcome."""
    write_whole(path.with_suffix(".done"), msgspec.json.encode(outcome))


def finished(path: Path, kind: type[T]) -> T | None:
    """Return the outcome of what `path` names, None if it is not done."""
    try:
        return msgspec.json.decode(path.with_suffix(".done").read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def sizes_of(path: Path, suffixes: Sequence[str]) -> tuple[int, ...]:
    """Return the sizes of files, -1 for one that is not there: noted when something is done.

    Only what says that it is done is forced to the disk, so after a crash of the machine the thing
    itself may be short; then the sizes differ.
    """
    files = [path.with_suffix(suffix) for suffix in suffixes]
    return tuple(file.stat().st_size if file.exists() else -1 for file in files)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also after a crash of the machine."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
