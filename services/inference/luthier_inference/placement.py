"""Which replica answers: the same one for the same adapter, as long as it is not too busy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

_FEW = 4
"""Calls at a time that no engine minds."""
_FACTOR = 1.25
"""How much busier than the others on average a replica may be."""


class Candidate(Protocol):
    """A replica that may answer."""

    @property
    def place(self) -> str:
        """What it is called, the same after a restart."""

    @property
    def calls(self) -> int:
        """Calls in flight."""

    @property
    def adapters(self) -> frozenset[str]:
        """Digests of the adapters it holds."""


C = TypeVar("C", bound=Candidate)


def choose(candidates: Sequence[C], digest: str) -> C:
    """Return the replica that answers with the adapter `digest`; empty means the base alone.

    Rendezvous hashing (Thaler and Ravishankar 1998): a replica that comes or goes moves its own
    adapters only. One that holds the adapter already goes first. None is given a call while it has
    more than its share of them (Mirrokni et al. 2018, "bounded loads").
    """
    if not digest:
        return min(candidates, key=lambda each: (each.calls, each.place))
    calls = sum(each.calls for each in candidates)
    bound = max(_FEW, math.ceil(_FACTOR * (calls + 1) / len(candidates)))
    ranked = sorted(
        candidates,
        key=lambda each: (digest in each.adapters, weight(each.place, digest)),
        reverse=True,
    )
    # There is one: the least busy has no more than the average.
    return next(each for each in ranked if each.calls < bound)


def weight(place: str, digest: str) -> bytes:
    """Return how much a place is meant for an adapter; the highest of all places wins."""
    return hashlib.sha256(f"{place}\n{digest}".encode()).digest()
