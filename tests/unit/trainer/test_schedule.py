"""When a run saves its state, and when it judges itself."""

from types import SimpleNamespace
from typing import Any

import pytest
from luthier_trainer.run import schedule
from luthier_trainer.run.schedule import ByTime, Judged, is_judged


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(schedule, "time", clock)
    return clock


def wants_saving(by_time: ByTime) -> bool:
    control = SimpleNamespace(should_save=False)
    by_time.on_step_end(None, None, control)
    return bool(control.should_save)


def test_a_state_is_saved_every_twenty_seconds_counted_from_the_end_of_the_last(
    clock: Clock,
) -> None:
    by_time = ByTime()
    assert not wants_saving(by_time)
    clock.now += 19.9
    assert not wants_saving(by_time)
    clock.now += 0.1
    assert wants_saving(by_time)
    clock.now += 1  # so long does saving take
    by_time.on_save()
    clock.now += 19.9
    assert not wants_saving(by_time)
    clock.now += 0.1
    assert wants_saving(by_time)


def test_a_state_that_takes_long_is_saved_so_often_as_costs_a_tenth_of_the_time(
    clock: Clock,
) -> None:
    by_time = ByTime()
    clock.now += 20
    assert wants_saving(by_time)
    clock.now += 60
    by_time.on_save()
    clock.now += 599
    assert not wants_saving(by_time)
    clock.now += 2
    assert wants_saving(by_time)
    clock.now += 1  # this time it is fast
    by_time.on_save()
    clock.now += 20
    assert wants_saving(by_time)


def judged(step: int, *, every: int | None = 4, steps: int = 10, epoch: int = 10) -> bool:
    arguments = SimpleNamespace(eval_strategy="steps" if every else "no", eval_steps=every)
    state: Any = SimpleNamespace(global_step=step, max_steps=steps)
    control = SimpleNamespace(should_evaluate=True)
    Judged(epoch).on_step_end(arguments, state, control)
    assert control.should_evaluate == is_judged(arguments, state, epoch)
    return is_judged(arguments, state, epoch)


def test_every_so_many_steps_are_judged_and_the_last() -> None:
    assert [step for step in range(11) if judged(step)] == [4, 8, 10]
    assert [step for step in range(9) if judged(step, steps=8)] == [4, 8]


def test_what_is_published_on_the_way_is_judged() -> None:
    assert [step for step in range(25) if judged(step, every=9, steps=24, epoch=6)] == [
        9,
        12,
        18,
        24,
    ]


def test_nothing_is_judged_without_validation_rows() -> None:
    assert not any(judged(step, every=None) for step in range(11))
