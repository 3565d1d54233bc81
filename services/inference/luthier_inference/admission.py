"""Admission: how many calls one base model takes, and how many of them one project."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

from luthier_common.errors import ResourceExhausted
from luthier_common.rpc.status import RETRY_AFTER

_SHARE = 4
"""A project has at most so many times the calls that are still free; alone, that is four fifths."""
_SMOOTHING = 0.2
_RETRY_SECONDS = (1.0, 60.0)


class Admission:
    """Refuses calls early, with the time after which one may be worth repeating.

    A project's bound shrinks as others come ("dynamic thresholds", Choudhury and Hahne 1998), so
    that there is always room for a project that has no call yet.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: Counter[str] = Counter()
        self._seconds = _RETRY_SECONDS[0]

    @contextlib.contextmanager
    def admit(self, project: str) -> Iterator[None]:
        """Count a call while it is open; ResourceExhausted when there are too many."""
        free = self._limit - self._calls.total()
        if free <= 0 or self._calls[project] >= _SHARE * free:
            raise self._busy()
        self._calls[project] += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds += _SMOOTHING * (time.monotonic() - began - self._seconds)
            self._calls[project] -= 1
            if not self._calls[project]:
                del self._calls[project]

    def _busy(self) -> ResourceExhausted:
        # About as long as a call takes: by then, those of now have ended.
        least, most = _RETRY_SECONDS
        seconds = min(max(self._seconds, least), most)
        return ResourceExhausted(
            f"this model has as many calls as it takes; ask again in {seconds:.0f} seconds",
            reason="ENGINE_BUSY",
            metadata={RETRY_AFTER: f"{seconds:.1f}"},
        )
