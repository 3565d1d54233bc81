"""Rows between their making and the artifacts: a file of rows, and one of what is compared."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

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
_READ_ROWS = 1 << 16
"""KEYs read at once."""
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


class Keys:
    """The KEYs of a file: columns are read where they are asked for, the whole is never held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = path.stat().st_size // KEY.itemsize

    def __len__(self) -> int:
        return self._rows

    def column(self, name: str, rows: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[Any]:
        """Return a field of KEY, of the rows of a mask if one is given."""
        count = self._rows if rows is None else int(np.count_nonzero(rows))
        column = np.empty((count, *KEY[name].shape), KEY[name].base)
        filled = 0
        with self._path.open("rb") as file:
            for start in range(0, self._rows, _READ_ROWS):
                part = np.fromfile(file, KEY, min(_READ_ROWS, self._rows - start))[name]
                if rows is not None:
                    part = part[rows[start : start + len(part)]]
                column[filled : filled + len(part)] = part
                filled += len(part)
        return column


class SignatureFile:
    """The signatures of a file, indexed as an array of them is; the whole is never held.

    Nor is it mapped: pages of a mapped file count as memory of the process that looked at them.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __len__(self) -> int:
        return os.fstat(self._file.fileno()).st_size // PERMUTATIONS

    def __getitem__(self, rows: slice | npt.NDArray[np.integer[Any]]) -> Signatures:
        descriptor = self._file.fileno()
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            data = os.pread(descriptor, (stop - start) * PERMUTATIONS, start * PERMUTATIONS)
        else:
            places = (rows.astype(np.int64) * PERMUTATIONS).tolist()
            data = b"".join([os.pread(descriptor, PERMUTATIONS, place) for place in places])
        return np.frombuffer(data, np.uint8).reshape(-1, PERMUTATIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
