"""What a contender's process is told, and what it tells: one line of JSON.

Knows nothing but the standard library and transformers, so that it serves in the peers'
environments, too.
"""

from __future__ import annotations

import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

SEED = 3


@dataclass(frozen=True)
class Task:
    """One training run: the same for all contenders."""

    model: str
    """Folder of the base model."""
    adapter: str
    """Folder of the adapter to begin with; empty for a new one."""
    rows: str
    """Conversations, one JSON object a line."""
    folder: str
    """An empty one, for whatever the contender writes."""
    option: str
    """What the contender knows variants by."""
    batch: int
    """Rows of a step; of who packs before training, lines of `longest` tokens."""
    longest: int
    """Most tokens of a row."""
    precision: str
    """`bf16` or `fp32`: what is computed in."""
    learning_rate: float

    def spelled(self) -> str:
        """Return the task as the argument of a process."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Run:
    """What one run came to."""

    seconds: float
    """Of `train()`, from call to return: the first step and whatever is compiled are in it."""
    cpu_seconds: float
    """The same, in processor time."""
    before: float
    """Seconds from the process' start until `train()`: imports, loading, tokenizing."""
    losses: list[float]
    """Of each step."""
    step_seconds: list[float]
    """Of each step, from its first forward pass to its update."""
    peak_bytes: int
    """Most memory held: by tensors of the GPU, or by the process."""


def run(contend: Callable[[Task], None]) -> None:
    """Let a contender do the task that it is given, and print what came of it."""
    start = time.perf_counter()
    from transformers import Trainer, TrainerCallback  # noqa: PLC0415 - part of the start

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Takes the time of steps."""

        def __init__(self) -> None:
            self.begun: list[float] = []
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begun.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.begun[-1])

    task, found = Task(**json.loads(sys.argv[1])), []
    train = Trainer.train

    @functools.wraps(train)
    def measured(trainer: Any, *arguments: Any, **options: Any) -> Any:
        clock = Clock()
        trainer.add_callback(clock)
        begun, cpu = time.perf_counter(), time.process_time()
        result = train(trainer, *arguments, **options)
        seconds = time.perf_counter() - begun
        found.append(
            Run(
                seconds=seconds,
                cpu_seconds=time.process_time() - cpu,
                before=begun - start,
                losses=[entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
                step_seconds=clock.seconds,
                peak_bytes=_peak_bytes(),
            )
        )
        return result

    Trainer.train = measured
    contend(task)
    print(json.dumps(asdict(found[-1])), flush=True)


def _peak_bytes() -> int:
    import torch  # noqa: PLC0415 - long there, in this process

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
