"""Hashes of the shingles of texts: every run of five words, as one 64-bit number each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 5
"""Words of a shingle."""

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_LETTERS = b"0123456789_abcdefghijklmnopqrstuvwxyz"
_IN_WORD = bytes(byte in _LETTERS or byte >= 128 for byte in range(256))
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)


def shingle_hashes(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.uint64]]:
    """Return the hashes of all shingles and, n + 1 long, where each text's begin.

    Words are casefolded runs of ASCII letters, digits, `_` and any other character beyond ASCII.
    A text of fewer than five words is one shingle; one without words counts as a word itself.
    The same text has the same hashes on every machine, whatever else is hashed with it.
    """
    coded = [text.casefold().encode("utf-8", "surrogatepass") for text in texts]
    begin = _offsets(np.array([len(one) + 1 for one in coded], np.int64)) + 1
    data = b"\n".join([b"", *coded, bytes(8)])
    starts, lengths, first = _words(data, begin)
    words = _word_hashes(data, starts, lengths)

    count = len(words) - WORDS + 1
    runs = words[:count]
    for step in range(1, WORDS):
        runs = runs * _ODD + words[step : count + step]
    inside = np.ones(len(runs), np.bool_)
    inside[first[1:-1, None] - np.arange(1, WORDS)] = False
    offsets = first - (WORDS - 1) * np.arange(len(first))
    return mix(runs[inside]), offsets.astype(np.uint64)


def mix(values: Hashes) -> Hashes:
    """Mix numbers well, in place; different ones stay different (finaliser of SplitMix64)."""
    values += _ODD
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _words(data: bytes, begin: Places) -> tuple[Places, Places, Places]:
    """Return where words start, their lengths, and, n + 1 long, each text's first word.

    Texts begin at `begin`, one byte apart. A text of fewer than five words gets empty ones to
    make up five, but for the first word of a text that has none: that is the text.
    """
    inside = np.frombuffer(data.translate(_IN_WORD), np.bool_)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    first = np.searchsorted(starts, begin)
    counts = np.diff(first)
    lacking = np.maximum(WORDS - counts, 0)
    if lacking.any():
        added = np.zeros(lacking.sum(), np.int64)
        wordless = counts == 0
        added[_offsets(lacking)[:-1][wordless]] = (np.diff(begin) - 1)[wordless]
        before = np.repeat(first[1:], lacking)
        starts = np.insert(starts, before, np.repeat(begin[:-1], lacking))
        lengths = np.insert(lengths, before, added)
        first = first + _offsets(lacking)
    return starts, lengths, first


def _word_hashes(data: bytes, starts: Places, lengths: Places) -> Hashes:
    """Return a hash of each word: the sum of those of its blocks of eight bytes.

    A block is hashed with the number of bytes from it to the word's end, so order and length
    count. The hash of an empty word is 0.
    """
    blocks = (lengths + 7) >> 3
    offsets = _offsets(blocks)
    done = (np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)) << 3
    left = np.repeat(lengths, blocks) - done
    anywhere = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    values = anywhere[np.repeat(starts, blocks) + done] & _LOW_BYTES[np.minimum(left, 8)]
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(mix(values + left.astype(np.uint64) * _ODD), out=sums[1:])
    return sums[offsets[1:]] - sums[offsets[:-1]]


def _offsets(counts: Places) -> Places:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
