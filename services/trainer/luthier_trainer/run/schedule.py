"""When a run saves its state and when it judges itself."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback

_PERIOD_SECONDS = 20.0
_EPOCHS_PUBLISHED = 3
_MOST_SHARE = 0.1
"""Of a run's time: where saving takes long, states are further apart."""


def is_judged(arguments: Any, state: Any, steps_per_epoch: int) -> bool:
    """Whether the model of this step is judged: every so many steps, where it is published, and at
    the end."""
    step = state.global_step
    if arguments.eval_strategy != "steps" or not step:
        return False
    published = is_published(step, steps_per_epoch, state.max_steps)
    return bool(published or step >= state.max_steps or step % arguments.eval_steps == 0)


def is_published(step: int, steps_per_epoch: int, max_steps: int) -> bool:
    """Whether the adapter of this step is published on the way: as OpenAI does, those of the last
    three epochs' ends; the very last is the result."""
    first = max_steps - (_EPOCHS_PUBLISHED - 1) * steps_per_epoch
    return 0 < step < max_steps and step >= first and step % steps_per_epoch == 0


class Judged(TrainerCallback):  # type: ignore[misc]
    """Has those steps judged that are to be, and no others."""

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for it."""
        control.should_evaluate = is_judged(args, state, self._steps_per_epoch)


class ByTime(TrainerCallback):  # type: ignore[misc]
    """Has a state saved every 20 seconds, or as often as costs a tenth of the time.

    By time and not by steps: a fault costs seconds, whatever a step takes.
    """

    def __init__(self) -> None:
        self._saved = time.monotonic()
        self._asked = self._saved
        self._cost = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for one when it is time."""
        now = time.monotonic()
        if now - self._saved >= max(_PERIOD_SECONDS, self._cost / _MOST_SHARE):
            control.should_save = True
            self._asked = now

    def on_save(self, *_: Any, **__: Any) -> None:
        """Count from when it is done."""
        self._saved = time.monotonic()
        self._cost = self._saved - self._asked
