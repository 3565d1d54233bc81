"""Which rows are held out for validation, and which balance their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luthier_dataset.quality.components import Ints, Mask, connect, first_of_each
from luthier_dataset.quality.exact import begins
from luthier_dataset.quality.shingles import mix


def hold_out(groups: NDArray[np.uint64], clusters: Ints, share: float, seed: int) -> Mask:
    """Return which rows are held out: at most `share` of them, nothing if nothing fits.

    Rows of one group stay together, and so do groups that a cluster of near duplicates links.
    These components are taken in the order of a seeded hash of their lowest group, each that
    still fits; what is chosen does not depend on the order of the rows.
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} is not from 0 to below 1")
    keys, group_of = _numbered(groups)
    first = first_of_each(clusters)
    linked = np.flatnonzero(first != np.arange(len(first), dtype=np.int32))
    root = np.arange(len(keys), dtype=np.int32)
    connect(root, group_of[linked], group_of[first[linked]])
    del first, linked
    component_of = root[group_of]
    rows = np.bincount(component_of, minlength=len(keys)).astype(np.int32)
    room = int(share * len(groups))
    held = np.zeros(len(keys), np.bool_)
    for component in np.argsort(_ranks(keys, seed), kind="stable"):
        # A group that is not the lowest of its component counts no rows.
        if 0 < rows[component] <= room:
            held[component] = True
            room -= int(rows[component])
        if not room:
            break
    return held[component_of]


def _numbered(groups: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], Ints]:
    """Return the different groups in order, and for each row the number of its own."""
    order = np.argsort(groups)
    ordered = groups[order]
    starts = begins(ordered)
    numbers = np.empty(len(groups), np.int32)
    numbers[order] = np.cumsum(starts, dtype=np.int32) - np.int32(1)
    return ordered[starts], numbers


MOST_TIMES = 10
"""So many times the rows of the rarest label a label may have."""
_MOST_KINDS, _LEAST_EACH = 100, 10


def are_labels(counts: Sequence[int]) -> bool:
    """Whether values that stand so many times each are labels, not texts."""
    return 1 < len(counts) <= _MOST_KINDS and sum(counts) >= _LEAST_EACH * len(counts)


def balance(
    labels: NDArray[np.uint64], seed: int, keys: NDArray[np.uint64], *, times: int = 1
) -> Mask:
    """Return which rows are kept so that no label has more than `times` those of the rarest one.

    Those with the lowest seeded hashes of `keys`, one for each row, are; of equal keys the first.
    """
    _, code, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((_ranks(keys, seed), code))
    starts = np.cumsum(counts) - counts
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    keep = np.zeros(len(labels), np.bool_)
    keep[order] = place < times * counts.min(initial=len(labels))
    return keep


def _ranks(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    salt = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    return mix(keys ^ np.uint64(int.from_bytes(salt, "little")))
