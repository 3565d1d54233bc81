"""Rows between their making and the artifacts: a file of rows, and one of what is compared."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from luthier_dataset.build.workspace import KEYS, ROWS, SIGNATURES
from luthier_dataset.normal import normal_form
from luthier_dataset.quality.near import PERMUTATIONS, Signatures, Signer
from luthier_dataset.recipes.recipe import Origin, Row, prompt_and_answer

KEY = np.dtype(
    [
        ("digest", "<u8", (2,)),
        ("prompt", "<u8"),
        ("answer", "<u8"),
        ("group", "<u8"),
        ("label", "<u8"),
        ("recipe", "<u4"),
        ("one_answer", "?"),
        ("tokens", "<i4"),
        ("learned", "<i4"),
        ("checks", "<u4"),
    ]
)
"""What is compared between all rows: 64-bit hashes and figures, 61 bytes a row.

`label` is 0 for rows without one; `checks` has bit n set for a finding of `QualityCheck` n.
"""
_LENGTH = struct.Struct("<I")
_SIGNED_TEXTS, _SIGNED_CHARACTERS = 256, 1024**2
"""Texts are signed together, up to so many of them or of their characters."""


class StoredRow(msgspec.Struct, frozen=True, array_like=True):
    """A row as it waits to be written."""

    line: str
    """Its line in the minted file, without `\\n`."""
    shape: str
    recipe: str
    origins: tuple[Origin, ...]
    tokens: int
    learned: int
    findings: tuple[int, ...]
    label: str


def row_keys(
    row: Row, stored: StoredRow, recipe: int, *, one_answer: bool, group: str
) -> tuple[object, ...]:
    """Return a row's KEY. Where a prompt has one answer, case and punctuation do not tell apart."""
    prompt, answer = prompt_and_answer(row)
    if one_answer:
        prompt, answer = normal_form(prompt), normal_form(answer)
        same = f"{recipe}\n{prompt}\n{answer}"
    else:
        same = stored.line
    digest = hashlib.blake2b(same.encode(), digest_size=16).digest()
    label = _hash(f"label {row.label}") if row.label else 0
    checks = sum(1 << check for check in stored.findings)
    return (
        np.frombuffer(digest, "<u8"), _hash(prompt), _hash(answer), _hash(group), label,
        recipe, one_answer, stored.tokens, stored.learned, checks,
    )  # fmt: skip


class RowWriter:
    """Writes the three files of a unit."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._files = [path.with_suffix(suffix).open("wb") for suffix in (ROWS, KEYS, SIGNATURES)]
        self._signer = Signer()
        self._texts: list[str] = []
        self._characters = 0
        self._encode = msgspec.msgpack.Encoder().encode

    def write(self, row: StoredRow, keys: tuple[object, ...], text: str) -> None:
        """Add a row; `text` is what near duplicates are found by."""
        data = self._encode(row)
        self._files[0].write(_LENGTH.pack(len(data)) + data)
        self._files[1].write(np.array([keys], KEY).tobytes())
        self._texts.append(text)
        self._characters += len(text)
        self.rows += 1
        if len(self._texts) == _SIGNED_TEXTS or self._characters >= _SIGNED_CHARACTERS:
            self._sign()

    def _sign(self) -> None:
        if self._texts:
            self._files[2].write(self._signer.sign(self._texts).tobytes())
        self._texts, self._characters = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sign()
        for file in self._files:
            file.close()


def read_rows(path: Path) -> Iterator[StoredRow]:
    """Yield a unit's rows in order."""
    decode = msgspec.msgpack.Decoder(StoredRow).decode
    with path.with_suffix(ROWS).open("rb") as file:
        while head := file.read(_LENGTH.size):
            yield decode(file.read(_LENGTH.unpack(head)[0]))


def read_keys(path: Path) -> npt.NDArray[np.void]:
    """Return the KEYs of a file."""
    return np.fromfile(path, KEY)


def signatures(path: Path, rows: int) -> Signatures:
    """Return the signatures of a file, mapped, not read."""
    if not rows:
        return np.zeros((0, PERMUTATIONS), np.uint8)
    return np.memmap(path, np.uint8, "r", shape=(rows, PERMUTATIONS))


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
