"""Watches how much memory a process and its children hold together."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.datasets.corpora import MEGABYTE

_EVERY_SECONDS = 0.2


@dataclass
class Peak:
    """The most that was seen."""

    rss: float = 0.0
    """MB of resident memory, summed: what several processes share counts in each."""
    pss: float = 0.0
    """MB of resident memory, what processes share divided among them."""
    stage: str = ""
    """What was being done when `rss` was at its peak."""
    processes: dict[str, float] = field(default_factory=dict)
    """MB of resident memory of each process then, by what it runs."""


class MemoryWatch:
    """Looks every 0.2 seconds while it is open; a peak between two looks is not seen."""

    def __init__(self, pid: int) -> None:
        self.stage = ""
        """What is being done; set it as that changes."""
        self.peak = Peak()
        self._parent = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            start = time.monotonic()
            self._look()
            self._ended.wait(max(0.0, _EVERY_SECONDS - (time.monotonic() - start)))

    def _look(self) -> None:
        try:
            family = [self._parent, *self._parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        resident: dict[str, float] = {}
        proportional = 0.0
        for process in family:
            try:
                size = process.memory_info().rss / MEGABYTE
                proportional += _pss(process.pid)
                resident[f"{_module(process)} {process.pid}"] = size
            except (psutil.NoSuchProcess, OSError):
                continue  # it has just ended
        self.peak.pss = max(self.peak.pss, proportional)
        if sum(resident.values()) > self.peak.rss:
            self.peak.rss = sum(resident.values())
            self.peak.stage = self.stage
            self.peak.processes = resident


def _module(process: psutil.Process) -> str:
    """Return what follows `-m` on a process's command line."""
    command = process.cmdline()
    return command[command.index("-m") + 1] if "-m" in command else process.name()


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    return 0.0
