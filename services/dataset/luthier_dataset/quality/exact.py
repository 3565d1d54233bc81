"""Rows that are the same, and rows that contradict each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from luthier_dataset.quality.components import Mask


def repeated(digests: NDArray[np.uint64]) -> Mask:
    """Return which rows of (n, 2) digests have a row before them with an equal digest."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    found = np.empty(len(digests), np.bool_)
    # The sort is stable, so that the first of a run is the lowest row.
    found[order] = ~(begins(digests[order, 0]) | begins(digests[order, 1]))
    return found


def conflicts(prompts: NDArray[np.uint64], answers: NDArray[np.uint64]) -> Mask:
    """Return which rows contradict another one: an equal prompt, a different answer."""
    order = np.lexsort((answers, prompts))
    starts = begins(prompts[order])
    differs = begins(answers[order]) & ~starts
    run = np.cumsum(starts, dtype=np.int32) - 1
    contradictory = np.zeros(int(run[-1]) + 1 if len(run) else 0, np.bool_)
    contradictory[run[differs]] = True
    found = np.empty(len(prompts), np.bool_)
    found[order] = contradictory[run]
    return found


def begins(values: NDArray[np.uint64]) -> Mask:
    """Return which values are unlike the one before them."""
    unlike = np.ones(len(values), np.bool_)
    unlike[1:] = values[1:] != values[:-1]
    return unlike
