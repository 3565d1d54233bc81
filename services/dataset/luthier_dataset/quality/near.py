"""Near duplicates: MinHash signatures (Broder 1997) and the clusters they show.

A signature keeps one byte of each minimum (b-bit minwise hashing, Li and König 2010): two of
them agree in a share of their bytes that is the Jaccard similarity of the texts' shingles, give
or take 0.04, and a million rows take 128 MB.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from luthier_dataset.quality.components import Ints, connect
from luthier_dataset.quality.shingles import Hashes, mix, shingle_hashes

PERMUTATIONS = 128
"""Bytes of a signature."""
THRESHOLD = 0.8

_SEED = 1
_BATCH = 1 << 16
"""Characters of texts and bytes of their signatures that are worked on at once. With more, the
allocator gets and returns memory pages at every step of the arithmetic: twice the time."""
_BAND = 8
"""Bytes that a pair must share in a row to be compared. With 16 such bands, pairs at 0.9 are
missed once in 10,000 times, at 0.8 once in 19, and of those at 0.5 one in 16 is compared."""
_WINDOW = 8
"""How many rows before it a row is compared with, of those that share a band."""
_AT_ONCE = 1 << 15

Signatures = NDArray[np.uint8]


class SignatureTable(Protocol):
    """What `clusters` asks of an array of signatures: parts of it; one on disk will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]], /) -> Signatures:
        """Return the signatures of a stretch of rows, or of the rows of these numbers."""
        ...


class Signer:
    """Makes signatures; the same ones for the same texts on every machine."""

    def sign(self, texts: Sequence[str]) -> Signatures:
        """Return the signature of each text: one row of PERMUTATIONS bytes each."""
        signed = [self._sign(batch) for batch in _batches(texts)]
        return np.concatenate([np.empty((0, PERMUTATIONS), np.uint8), *signed])

    def _sign(self, texts: Sequence[str]) -> Signatures:
        hashes, offsets = shingle_hashes(texts)
        digests = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets, PERMUTATIONS, _SEED
        )
        minima = array("I")
        for row in digests.to_rows():
            minima.fromlist(row)
        # The top byte after a multiplication depends on every bit of the minimum.
        spread = (np.frombuffer(minima, np.uint32) * np.uint32(0x9E3779B1)) >> np.uint32(24)
        return spread.astype(np.uint8).reshape(-1, PERMUTATIONS)


def clusters(signatures: SignatureTable, threshold: float = THRESHOLD) -> Ints:
    """Return for each row the lowest row of its cluster, itself if it is alone.

    A cluster is what pairs of rows with at least `threshold` of their signatures alike connect.
    Rows with equal signatures are joined first. Of the rest, the rows that share a band of eight
    bytes are compared: each with the first of them and with the eight before it. So all pairs of
    up to nine rows are looked at, and work grows with the rows, not their square, where thousands
    share a phrase. Some 40 bytes a row are held, and twice that where most rows share a band;
    signatures are looked at a few thousand at a time.
    """
    root = np.arange(len(signatures), dtype=np.int32)
    _join(root, signatures, root, _digests(signatures), window=1, alike=PERMUTATIONS)
    distinct = np.flatnonzero(root == np.arange(len(root), dtype=np.int32)).astype(np.int32)
    for band in range(PERMUTATIONS // _BAND):
        _join(
            root, signatures, distinct, _band(signatures, band)[distinct],
            window=_WINDOW, alike=int(np.ceil(threshold * PERMUTATIONS)),
        )  # fmt: skip
    return root


def _digests(signatures: SignatureTable) -> Hashes:
    """Return a hash of each whole signature."""
    digests = np.zeros(len(signatures), np.uint64)
    for start, bands in _stretches(signatures):
        part = digests[start : start + len(bands)]
        for band in range(bands.shape[1]):
            part += bands[:, band]
            mix(part)
    return digests


def _band(signatures: SignatureTable, band: int) -> Hashes:
    """Return a band of each signature, as one number."""
    column = np.empty(len(signatures), np.uint64)
    for start, bands in _stretches(signatures):
        column[start : start + len(bands)] = bands[:, band]
    return column


def _stretches(signatures: SignatureTable) -> Iterator[tuple[int, Hashes]]:
    """Yield the bands of so many rows at once, and the first row's number."""
    for start in range(0, len(signatures), _AT_ONCE):
        yield start, signatures[start : start + _AT_ONCE].view(np.uint64)


def _join(
    root: Ints,
    signatures: SignatureTable,
    rows: Ints,
    keys: Hashes,
    *,
    window: int,
    alike: int,
) -> None:
    """Connect rows of equal keys whose signatures have at least `alike` bytes in common.

    Overwrites the keys: each gives its low bits to the number of its row, so that one sort in
    place orders both. The few different keys that this makes equal are compared in vain.
    """
    row_bits = np.uint64(len(root).bit_length())
    mix(keys)
    keys >>= row_bits
    keys <<= row_bits
    keys |= rows.astype(np.uint64)
    keys.sort()
    follows = np.zeros(len(keys) + 1, np.bool_)
    follows[1:-1] = (keys[1:] ^ keys[:-1]) < np.uint64(1) << row_bits
    shared = follows[:-1] | follows[1:]
    rows = (keys[shared] & ((np.uint64(1) << row_bits) - np.uint64(1))).astype(np.int32)
    place = np.arange(len(rows), dtype=np.int32)
    first = np.maximum.accumulate(np.where(follows[:-1][shared], np.int32(0), place))
    behind = place - first
    for back in range(1, window + 1):
        later = np.flatnonzero(behind >= back)
        _connect_alike(root, signatures, rows[later], rows[later - back], alike)
    later = np.flatnonzero(behind > window)
    _connect_alike(root, signatures, rows[later], rows[first[later]], alike)


def _connect_alike(
    root: Ints, signatures: SignatureTable, left: Ints, right: Ints, alike: int
) -> None:
    apart = root[left] != root[right]
    left, right = left[apart], right[apart]
    found = np.zeros(len(left), np.bool_)
    for start in range(0, len(left), _AT_ONCE):
        stretch = slice(start, start + _AT_ONCE)
        same = signatures[left[stretch]] == signatures[right[stretch]]
        found[stretch] = np.count_nonzero(same, axis=1) >= alike
    # All at once: each call looks at every row.
    connect(root, left[found], right[found])


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start, size = 0, 0
    for end, text in enumerate(texts):
        cost = len(text) + PERMUTATIONS
        if size and size + cost > _BATCH:
            yield texts[start:end]
            start, size = end, 0
        size += cost
    if start < len(texts):
        yield texts[start:]
