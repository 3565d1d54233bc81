"""Rows that wait, in an order that gives every project its share of tokens.

Virtual token counters (Sheng et al. 2024, "Fairness in serving large language models"): the next
row is of the project that has been served least; one that comes back begins where the least served
of the others is, so that nobody saves up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from luthier_inference.engine.row import Row

_WRITTEN_WEIGHT = 2
"""A token written costs about as much as two that are read together with others."""


class FairQueue:
    """Waiting rows of all projects."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[Row]] = {}
        self._served: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def add(self, row: Row, *, first: bool = False) -> None:
        """Add a row behind its project's others; `first` puts one back that had begun."""
        if row.project not in self._rows:
            least = min((self._served[project] for project in self._rows), default=0.0)
            self._served[row.project] = max(self._served.get(row.project, 0.0), least)
            self._rows[row.project] = deque()
        rows = self._rows[row.project]
        rows.appendleft(row) if first else rows.append(row)

    def served(self, project: str, *, read: int = 0, written: int = 0) -> None:
        """Count tokens that a project was given."""
        given = read + _WRITTEN_WEIGHT * written
        self._served[project] = self._served.get(project, 0.0) + given

    def in_order(self) -> Iterator[Row]:
        """Yield the rows, the fairest next one first; ones of a project in their order.

        A row taken with `take` while this goes on is no trouble.
        """
        share = {project: self._served[project] for project in self._rows}
        rows = {project: iter(tuple(rows)) for project, rows in self._rows.items()}
        while rows:
            project = min(rows, key=share.__getitem__)
            row = next(rows[project], None)
            if row is None:
                del rows[project]
            else:
                yield row
                share[project] += len(row.prompt)

    def drop_cancelled(self) -> None:
        """Remove the rows that nobody reads any more."""
        for row in [row for rows in self._rows.values() for row in rows if row.cancelled]:
            self.take(row)

    def take(self, row: Row) -> None:
        """Remove a row."""
        rows = self._rows[row.project]
        rows.remove(row)
        if not rows:
            del self._rows[row.project]
            self._forget_idle()

    def _forget_idle(self) -> None:
        # Projects that come back begin with the others, so old counts are of no use.
        if not self._rows:
            self._served.clear()
