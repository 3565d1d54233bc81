"""What a forked run can be made to suffer. Called in the fork, before the run begins."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from pathlib import Path
from typing import Any


def quickly(*, step_seconds: float = 0.0, trace: str = "") -> None:
    """Save a state at every step, report and commit soon, and take so long for each step.

    `trace` is a file that gets a line for each step done.
    """
    from luthier_trainer.run import keeper, report, schedule

    schedule._PERIOD_SECONDS = 0.0
    schedule._MOST_SHARE = math.inf
    report._REPORT_SECONDS = 0.2
    keeper._LOOK_SECONDS = 0.05
    done = schedule.ByTime.on_step_end
    job = json.loads(os.environ["LUTHIER_RUN_JOB"])

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **others: Any) -> None:
        if trace:
            line = {"job": job["name"], "epoch": int(job["epoch"]), "step": state.global_step}
            with Path(trace).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        time.sleep(step_seconds)
        done(self, args, state, control, **others)

    schedule.ByTime.on_step_end = on_step_end  # type: ignore[method-assign]


def full_disk(*, saves: int) -> None:
    """Have the disk be full for so many of the first states."""
    from luthier_trainer.run import resume_state

    sync, left = resume_state._sync, saves

    def full(path: Path) -> None:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    resume_state._sync = full


def out_of_memory(*, lines: int) -> None:
    """Have the device hold fewer than so many lines at once."""
    import torch
    from luthier_trainer.run.trainers import StepTrainer

    compute = StepTrainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *others: Any, **named: Any) -> Any:
        if len(inputs["input_ids"]) >= lines:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(self, model, inputs, *others, **named)

    StepTrainer.compute_loss = compute_loss  # type: ignore[method-assign]


def not_a_number(*, step: int) -> None:
    """Have the loss be none once so many steps are done."""
    from luthier_trainer.run.trainers import StepTrainer

    compute = StepTrainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *others: Any, **named: Any) -> Any:
        loss = compute(self, model, inputs, *others, **named)
        return loss * math.nan if self.state.global_step >= step else loss

    StepTrainer.compute_loss = compute_loss  # type: ignore[method-assign]
