"""Hashes of the shingles of texts: every run of five words, as one 64-bit number each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 5
"""Words of a shingle."""

Hashes = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15
"""Odd, so that its powers can be divided by modulo 2^64."""
_WORD_BYTES = np.zeros(256, np.bool_)
_WORD_BYTES[list(b"0123456789_abcdefghijklmnopqrstuvwxyz")] = True
_WORD_BYTES[128:] = True


def shingle_hashes(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.uint64]]:
    """Return the hashes of all shingles and, n + 1 long, where each text's begin.

    Words are casefolded runs of ASCII letters, digits, `_` and any other character beyond ASCII.
    A text of fewer than five words is one shingle; one without words is one of its own bytes.
    The same text has the same hashes on every machine.
    """
    coded = [text.casefold().encode("utf-8", "surrogatepass") for text in texts]
    data = np.frombuffer(b"\n".join([*coded, b""]), np.uint8)
    begin = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(one) + 1 for one in coded], out=begin[1:])
    prefix, inverse = _prefix_hashes(data)

    edges = np.flatnonzero(np.diff(_WORD_BYTES[data].view(np.int8), prepend=np.int8(0)))
    starts, ends = edges[::2], edges[1::2]
    words = mix((prefix[ends] - prefix[starts]) * inverse[starts])
    first = np.searchsorted(starts, begin)

    shingles = np.maximum(np.diff(first) - WORDS + 1, 1)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(shingles, out=offsets[1:])
    text_of = np.repeat(np.arange(len(texts)), shingles)
    place = first[text_of] + np.arange(offsets[-1]) - offsets[text_of]
    hashes = np.zeros(len(place), np.uint64)
    padded = np.concatenate([words, np.zeros(WORDS, np.uint64)])
    for step in range(WORDS):
        inside = place + step < first[text_of + 1]
        hashes = mix(hashes + np.where(inside, padded[place + step], np.uint64(0)))
    wordless = np.flatnonzero(np.diff(first) == 0)
    hashes[offsets[wordless]] = mix(
        (prefix[begin[wordless + 1] - 1] - prefix[begin[wordless]]) * inverse[begin[wordless]]
    )
    return hashes, offsets.astype(np.uint64)


def mix(values: Hashes) -> Hashes:
    """Return well-mixed numbers, a different one for each (the finaliser of SplitMix64)."""
    values = values + np.uint64(_BASE)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _prefix_hashes(data: NDArray[np.uint8]) -> tuple[Hashes, Hashes]:
    """Return h and v such that `(h[b] - h[a]) * v[a]` is a hash of `data[a:b]` (Karp-Rabin)."""
    power = np.full(len(data) + 1, _BASE, np.uint64)
    inverse = np.full(len(data) + 1, pow(_BASE, -1, 1 << 64), np.uint64)
    power[0] = inverse[0] = 1
    np.multiply.accumulate(power, out=power)
    np.multiply.accumulate(inverse, out=inverse)
    prefix = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(power[:-1] * (data + np.uint64(1)), out=prefix[1:])
    return prefix, inverse
