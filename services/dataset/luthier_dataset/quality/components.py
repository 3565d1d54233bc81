"""Connected components of pairs, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.int32]
"""Numbers of rows: half the memory of numpy's own, enough for two billion."""


def connect(root: Ints, left: Ints, right: Ints) -> None:
    """Join the components of `left[i]` and `right[i]`, for every i, in place.

    `root[i]` is the lowest member of the component of i, before and after; start from
    `numpy.arange(n, dtype=numpy.int32)`. Roots are hooked to lower roots and paths halved until
    nothing changes (Shiloach and Vishkin 1982), so the result does not depend on the order of the
    pairs.
    """
    while True:
        left, right = root[left], root[right]
        apart = left != right
        if not apart.any():
            return
        left, right = left[apart], right[apart]
        np.minimum.at(root, np.maximum(left, right), np.minimum(left, right))
        _flatten(root)


def first_of_each(clusters: Ints) -> Ints:
    """Return for each row the first row of its cluster, itself if there is none before it."""
    rows = np.arange(len(clusters), dtype=np.int32)
    first = np.empty(int(clusters.max(initial=-1)) + 1, np.int32)
    # Of several values for one place the last one stays.
    first[clusters[::-1]] = rows[::-1]
    return first[clusters]


def _flatten(root: Ints) -> None:
    while True:
        above = root[root]
        if np.array_equal(above, root):
            return
        root[:] = above
