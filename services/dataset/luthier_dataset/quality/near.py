"""Near duplicates: MinHash signatures (Broder 1997) and the clusters they show.

A signature keeps one byte of each minimum (b-bit minwise hashing, Li and König 2010): two of
them agree in a share of their bytes that is the Jaccard similarity of the texts' shingles, give
or take 0.04, and a million rows take 128 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from luthier_dataset.quality.components import Ints, connect
from luthier_dataset.quality.shingles import mix, shingle_hashes

PERMUTATIONS = 128
"""Bytes of a signature."""
THRESHOLD = 0.8

_SEED = 1
_BATCH_CHARS = 1 << 18
_BAND = 8
"""Bytes that a pair must share in a row to be compared. With 16 such bands, pairs at 0.9 are
missed once in 10,000 times, at 0.8 once in 19, and of those at 0.5 one in 16 is compared."""
_WINDOW = 8
"""How many rows before it a row is compared with, of those that share a band."""
_AT_ONCE = 1 << 16

Signatures = NDArray[np.uint8]


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
        numbers = chain.from_iterable(digests.to_rows())
        minima = np.fromiter(numbers, np.uint32, len(texts) * PERMUTATIONS)
        # The top byte after a multiplication depends on every bit of the minimum.
        spread = (minima * np.uint32(0x9E3779B1)) >> np.uint32(24)
        return spread.astype(np.uint8).reshape(-1, PERMUTATIONS)


def clusters(signatures: Signatures, threshold: float = THRESHOLD) -> Ints:
    """Return for each row the lowest row of its cluster, itself if it is alone.

    A cluster is what pairs of rows with at least `threshold` of their signatures alike connect.
    Rows with equal signatures are joined first. Of the rest, the rows that share a band of eight
    bytes are compared: each with the first of them and with the eight before it. So all pairs of
    up to nine rows are looked at, and work grows with the rows, not their square, where thousands
    share a phrase. Besides the signatures, 40 bytes a row are held.
    """
    bands: NDArray[np.uint64] = signatures.view(np.uint64)
    root = np.arange(len(bands), dtype=np.int64)
    whole = np.zeros(len(bands), np.uint64)
    for band in range(bands.shape[1]):
        whole = mix(whole + bands[:, band])
    _join(root, signatures, root.copy(), whole, window=1, alike=PERMUTATIONS)
    distinct = np.flatnonzero(root == np.arange(len(root)))
    for band in range(bands.shape[1]):
        _join(
            root, signatures, distinct, bands[distinct, band],
            window=_WINDOW, alike=int(np.ceil(threshold * PERMUTATIONS)),
        )  # fmt: skip
    return root


def _join(
    root: Ints,
    signatures: Signatures,
    rows: Ints,
    keys: NDArray[np.uint64],
    *,
    window: int,
    alike: int,
) -> None:
    """Connect rows of equal keys whose signatures have at least `alike` bytes in common."""
    order = np.argsort(keys, kind="stable")
    rows, keys = rows[order], keys[order]
    heads = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    first = np.repeat(heads, np.diff(heads, append=len(keys)))
    behind = np.arange(len(keys)) - first
    pairs = [(np.flatnonzero(behind >= back), back) for back in range(1, window + 1)]
    for later, back in pairs:
        _connect_alike(root, signatures, rows[later], rows[later - back], alike)
    later = np.flatnonzero(behind > window)
    _connect_alike(root, signatures, rows[later], rows[first[later]], alike)


def _connect_alike(root: Ints, signatures: Signatures, left: Ints, right: Ints, alike: int) -> None:
    for start in range(0, len(left), _AT_ONCE):
        one, other = left[start : start + _AT_ONCE], right[start : start + _AT_ONCE]
        apart = root[one] != root[other]
        one, other = one[apart], other[apart]
        common = np.count_nonzero(signatures[one] == signatures[other], axis=1)
        connect(root, one[common >= alike], other[common >= alike])


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start, size = 0, 0
    for end, text in enumerate(texts):
        if size and size + len(text) > _BATCH_CHARS:
            yield texts[start:end]
            start, size = end, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]
