"""Rows that are the same, and rows that contradict each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from luthier_dataset.quality.components import Ints

Mask = NDArray[np.bool_]


def first_of_equal(digests: NDArray[np.uint64]) -> Ints:
    """Return for each row of (n, 2) digests the lowest row with an equal digest, maybe itself."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    first = np.empty(len(digests), np.int64)
    # The sort is stable, so that the first of a run is the lowest row.
    first[order] = order[_run_starts(digests[order])]
    return first


def conflicts(
    prompts: NDArray[np.uint64],
    answers: NDArray[np.uint64],
    scope: NDArray[np.uint32],
    considered: Mask,
) -> Mask:
    """Return which of the considered rows contradict another one.

    They do if a row of the same scope has an equal prompt and a different answer.
    """
    rows = np.flatnonzero(considered)
    keys = np.stack([scope[rows].astype(np.uint64), prompts[rows]], axis=1)
    order = np.lexsort((answers[rows], keys[:, 1], keys[:, 0]))
    rows, starts = rows[order], _run_starts(keys[order])
    changes = np.zeros(len(rows), np.int64)
    changes[1:] = answers[rows[1:]] != answers[rows[:-1]]
    changes[np.unique(starts)] = 0
    several = np.zeros(len(rows), np.int64)
    np.add.at(several, starts, changes)
    found = np.zeros(len(considered), np.bool_)
    found[rows] = several[starts] > 0
    return found


def _run_starts(keys: NDArray[np.uint64]) -> Ints:
    """Return for each row of sorted keys where its run of equal ones begins."""
    new = np.ones(len(keys), np.bool_)
    new[1:] = np.any(keys[1:] != keys[:-1], axis=1)
    starts: Ints = np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
    return starts
