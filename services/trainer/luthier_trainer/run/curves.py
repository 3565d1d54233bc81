"""The figures of a run by step: on the board while it works, as CSV when it is done."""

from __future__ import annotations

import csv
import math
import resource
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from luthier.trainer.v1.training_job_pb2 import Measurement, TrainingProgress
from luthier_common.errors import FailedPrecondition
from transformers import TrainerCallback

from luthier_trainer.gates import BASE
from luthier_trainer.run.data import Collator
from luthier_trainer.run.report import Board

_COLUMNS = {
    "train_loss": "loss",
    "train_accuracy": "mean_token_accuracy",
    "valid_loss": "eval_loss",
    "valid_mean_token_accuracy": "eval_mean_token_accuracy",
}
"""OpenAI's names of the columns behind `step`, and the trainer's of what stands in them."""
_TRAINED = {"train_loss": "loss", "train_mean_token_accuracy": "mean_token_accuracy"}
_WINDOW_STEPS = 20
"""Steps that rates are taken over."""


class Curves(TrainerCallback):  # type: ignore[misc]
    """Follows a run's log; ends the run when it diverges or is told to stop."""

    def __init__(self, board: Board, collator: Collator) -> None:
        self._board = board
        self._collator = collator
        self._marks: deque[tuple[int, float, int]] = deque(maxlen=_WINDOW_STEPS + 1)
        self.speeds: list[float] = []
        """Real tokens a second of each step of this process but the first, which warms up."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._mark(state.global_step)

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """Give a sign of life; Stopped or GaveBack, once the run has been told to."""
        self._board.beats += 1
        self._board.check()

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
            peak_memory_bytes=peak_memory_bytes(),
        )
        # Here and not at the step's end: what the step has come to is in the history by now, and
        # an evaluation that is due is made up for later.
        self._board.beats += 1
        self._board.check()

    def measurement(self, *, above: int) -> Measurement:
        """Return what this process has measured; memory, of a CPU run, above so many bytes."""
        cuda = torch.cuda.is_available()
        return Measurement(
            device_class=torch.cuda.get_device_name(0) if cuda else "cpu",
            tokens_per_second=statistics.median(self.speeds) if self.speeds else 0.0,
            peak_memory_bytes=peak_memory_bytes() - (0 if cuda else above),
            step_count=len(self.speeds),
        )

    def _mark(self, step: int) -> tuple[int, float, int]:
        """Return the steps, seconds and tokens since the window's first mark."""
        mark = (step, time.monotonic(), self._collator.tokens)
        if len(self._marks) > 1 and mark[1] > self._marks[-1][1]:
            _, when, tokens = self._marks[-1]
            self.speeds.append((mark[2] - tokens) / (mark[1] - when))
        self._marks.append(mark)
        first = self._marks[0]
        return mark[0] - first[0], mark[1] - first[1], mark[2] - first[2]


def peak_memory_bytes() -> int:
    """Return the most memory held so far: by tensors of the GPU, or by this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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


def summary(
    history: Sequence[Mapping[str, float]], *, steps_per_epoch: int, best_step: int
) -> dict[str, float]:
    """Return the means of the last epoch, the figures of the best step's evaluation, and those of
    the untuned model, whose names begin with `base_`."""
    trained = [entry for entry in history if "loss" in entry][-steps_per_epoch:]
    figures = {
        name: sum(entry[key] for entry in trained) / len(trained)
        for name, key in _TRAINED.items()
        if trained
    }
    figures |= _judged(history, best_step)
    for entry in history:
        figures |= {name: value for name, value in entry.items() if name.startswith(BASE)}
    return figures


def step_figures(history: Sequence[Mapping[str, float]], step: int) -> dict[str, float]:
    """Return the figures of one step, as far as they were taken."""
    figures = {
        name: entry[key]
        for entry in history
        if entry["step"] == step
        for name, key in _TRAINED.items()
        if key in entry
    }
    before = {
        name: value for entry in history for name, value in entry.items() if name.startswith(BASE)
    }
    return before | figures | _judged(history, step)


def _judged(history: Sequence[Mapping[str, float]], step: int) -> dict[str, float]:
    return {
        f"valid_{key.removeprefix('eval_')}": value
        for entry in history
        if entry["step"] == step and "eval_loss" in entry
        for key, value in entry.items()
        if key.startswith("eval_")
    }


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
