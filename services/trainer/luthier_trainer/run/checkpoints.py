"""Checkpoints: taken by time, so that a fault costs seconds, whatever the length of a step."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

_PERIOD_SECONDS = 20.0
_STATE = "trainer_state.json"
"""The file that the trainer writes last."""


class ByTime(TrainerCallback):  # type: ignore[misc]
    """Has a checkpoint saved every 20 seconds."""

    def __init__(self) -> None:
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for one when it is time."""
        if time.monotonic() - self._saved >= _PERIOD_SECONDS:
            control.should_save = True

    def on_save(self, *_: Any, **__: Any) -> None:
        """Count from when it is done."""
        self._saved = time.monotonic()


def folder(run: Path) -> Path:
    """Return where a run's checkpoints are."""
    return run / "checkpoints"


def last(run: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, if any; half-written ones are removed."""
    complete: dict[int, Path] = {}
    for path in folder(run).glob("checkpoint-*"):
        step = step_of(path)
        if step is None:
            shutil.rmtree(path)
        else:
            complete[step] = path
    return complete[max(complete)] if complete else None


def step_of(path: Path) -> int | None:
    """Return the step that a checkpoint was taken at, None unless it is complete."""
    try:
        return int(json.loads((path / _STATE).read_text(encoding="utf-8"))["global_step"])
    except (OSError, ValueError, KeyError):
        return None
