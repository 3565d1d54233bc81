"""The figures of a run by step: on the board while it works, as CSV when it is done."""

from __future__ import annotations

import csv
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.trainer.v1.training_job_pb2 import TrainingProgress
from luthier_common.errors import FailedPrecondition
from transformers import TrainerCallback

from luthier_trainer.run.data import LineCollator
from luthier_trainer.run.report import Board

_COLUMNS = {
    "train_loss": "loss",
    "train_accuracy": "mean_token_accuracy",
    "valid_loss": "eval_loss",
    "valid_mean_token_accuracy": "eval_mean_token_accuracy",
}
"""OpenAI's names of the columns behind `step`, and the trainer's of what stands in them."""
_WINDOW_STEPS = 20
"""Steps that rates are taken over."""


class Curves(TrainerCallback):  # type: ignore[misc]
    """Follows a run's log; ends the run when it diverges or is told to stop."""

    def __init__(self, board: Board, collator: LineCollator) -> None:
        self._board = board
        self._collator = collator
        self._marks: deque[tuple[int, float, int]] = deque(maxlen=_WINDOW_STEPS + 1)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._mark(state.global_step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Give a sign of life; Stopped, once the run has been told to."""
        self._board.beats += 1
        self._board.check_stop()

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """Do the same within an evaluation."""
        self._board.beats += 1
        self._board.check_stop()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any
    ) -> None:
        """Put a step's figures on the board; FailedPrecondition when it has diverged."""
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs["grad_norm"]):
            raise FailedPrecondition(
                f"the loss is no longer a number at step {state.global_step}; try a smaller "
                "learning_rate_multiplier",
                reason="DIVERGED",
            )
        steps, seconds, tokens = self._mark(state.global_step)
        self._board.progress = TrainingProgress(
            step=state.global_step,
            total_steps=state.max_steps,
            epoch=state.epoch or 0.0,
            loss=logs["loss"],
            token_accuracy=logs["mean_token_accuracy"],
            learning_rate=logs["learning_rate"],
            gradient_norm=logs["grad_norm"],
            tokens_per_second=tokens / seconds if seconds else 0.0,
            seconds_left=(state.max_steps - state.global_step) * seconds / max(1, steps),
        )

    def _mark(self, step: int) -> tuple[int, float, int]:
        """Return the steps, seconds and tokens since the window's first mark."""
        mark = (step, time.monotonic(), self._collator.tokens)
        self._marks.append(mark)
        first = self._marks[0]
        return mark[0] - first[0], mark[1] - first[1], mark[2] - first[2]


def write_csv(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write a trainer's log in the form of OpenAI's result files."""
    steps: dict[int, dict[str, float]] = {}
    for entry in history:
        steps.setdefault(int(entry["step"]), {}).update(entry)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *_COLUMNS])
        for step, entry in sorted(steps.items()):
            if "loss" in entry or "eval_loss" in entry:
                writer.writerow([step, *(_shown(entry.get(key)) for key in _COLUMNS.values())])


def summary(history: Sequence[Mapping[str, float]], *, steps_per_epoch: int) -> dict[str, float]:
    """Return the means of the last epoch, and the last evaluation's figures."""
    trained = [entry for entry in history if "loss" in entry][-steps_per_epoch:]
    judged = [entry for entry in history if "eval_loss" in entry][-1:]
    means = {
        "train_loss": [entry["loss"] for entry in trained],
        "train_mean_token_accuracy": [entry["mean_token_accuracy"] for entry in trained],
        "valid_loss": [entry["eval_loss"] for entry in judged],
        "valid_mean_token_accuracy": [entry["eval_mean_token_accuracy"] for entry in judged],
    }
    return {name: sum(values) / len(values) for name, values in means.items() if values}


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
