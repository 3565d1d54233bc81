"""The figures of a run: on the board, in the CSV, in the summary."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from luthier_common.errors import FailedPrecondition
from luthier_trainer.run import curves
from luthier_trainer.run.curves import Curves, summary, write_csv
from luthier_trainer.run.data import LineCollator
from luthier_trainer.run.report import Board, GaveBack, Stopped

HEADER = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
"""As in the result files of OpenAI's fine-tuning."""

HISTORY: list[dict[str, float]] = [
    {"step": 1, "loss": 4.0, "mean_token_accuracy": 0.125, "grad_norm": 1.0, "epoch": 0.5},
    {"step": 2, "loss": 2.0, "mean_token_accuracy": 0.25, "grad_norm": 1.0, "epoch": 1.0},
    {"step": 2, "eval_loss": 2.5, "eval_mean_token_accuracy": 0.2, "epoch": 1.0},
    {"step": 3, "loss": 1.0, "mean_token_accuracy": 0.5, "grad_norm": 1.0, "epoch": 1.5},
    {"step": 4, "loss": 0.5, "mean_token_accuracy": 0.75, "grad_norm": 1.0, "epoch": 2.0},
    {"step": 4, "eval_loss": 1 / 3, "eval_mean_token_accuracy": 0.6, "epoch": 2.0},
    {"step": 4, "train_runtime": 3.5, "train_loss": 1.875, "total_flos": 1e9},
]
BEFORE = {"step": 0, "base_valid_loss": 5.0, "base_rougeL": 0.1}
"""What the untuned model could do, as it stands in the log."""


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_csv_has_openais_columns_and_a_row_for_each_step(tmp_path: Path) -> None:
    write_csv(HISTORY, tmp_path / "m.csv")
    assert rows_of(tmp_path / "m.csv") == [
        HEADER,
        ["1", "4", "0.125", "", ""],
        ["2", "2", "0.25", "2.5", "0.2"],
        ["3", "1", "0.5", "", ""],
        ["4", "0.5", "0.75", "0.333333", "0.6"],
    ]


def test_steps_are_in_order_whatever_the_order_of_the_log(tmp_path: Path) -> None:
    write_csv(HISTORY, tmp_path / "one.csv")
    write_csv(HISTORY[::-1], tmp_path / "two.csv")
    assert rows_of(tmp_path / "one.csv") == rows_of(tmp_path / "two.csv")


def test_a_log_without_a_step_is_a_csv_without_rows(tmp_path: Path) -> None:
    write_csv([], tmp_path / "m.csv")
    assert rows_of(tmp_path / "m.csv") == [HEADER]


def test_figures_of_the_untuned_model_are_no_step(tmp_path: Path) -> None:
    write_csv([BEFORE, *HISTORY], tmp_path / "m.csv")
    assert [row[0] for row in rows_of(tmp_path / "m.csv")] == ["step", "1", "2", "3", "4"]


def test_the_summary_is_the_last_epochs_mean_and_the_best_evaluation() -> None:
    assert summary(HISTORY, steps_per_epoch=2, best_step=4) == {
        "train_loss": 0.75,
        "train_mean_token_accuracy": 0.625,
        "valid_loss": 1 / 3,
        "valid_mean_token_accuracy": 0.6,
    }


def test_the_best_evaluation_need_not_be_the_last() -> None:
    figures = summary(HISTORY, steps_per_epoch=2, best_step=2)
    assert (figures["valid_loss"], figures["valid_mean_token_accuracy"]) == (2.5, 0.2)
    assert figures["train_loss"] == 0.75


def test_an_evaluation_that_was_made_up_for_is_the_one_that_counts() -> None:
    again = {"step": 4, "eval_loss": 0.25, "eval_mean_token_accuracy": 0.75}
    assert summary([*HISTORY, again], steps_per_epoch=2, best_step=4)["valid_loss"] == 0.25


def test_the_summary_of_preferences_tells_of_rewards() -> None:
    judged = HISTORY[2] | {"eval_reward_accuracy": 0.75, "eval_reward_margin": 1.5}
    figures = summary([judged], steps_per_epoch=1, best_step=2)
    assert figures["valid_reward_accuracy"] == 0.75
    assert figures["valid_reward_margin"] == 1.5


def test_the_summary_has_the_figures_of_the_untuned_model() -> None:
    figures = summary([BEFORE, *HISTORY], steps_per_epoch=2, best_step=4)
    assert figures["base_valid_loss"] == 5
    assert figures["base_rougeL"] == 0.1
    assert "step" not in figures


def test_the_summary_of_a_run_without_validation_has_no_such_figures() -> None:
    assert summary(HISTORY[:1], steps_per_epoch=10, best_step=1) == {
        "train_loss": 4.0,
        "train_mean_token_accuracy": 0.125,
    }


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


LOGS = {"loss": 1.5, "grad_norm": 0.5, "learning_rate": 1e-3, "mean_token_accuracy": 0.5}


def state(step: int) -> Any:
    return SimpleNamespace(global_step=step, max_steps=10, epoch=step / 5)


def test_the_board_shows_the_latest_step_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, board, collator = Clock(), Board(), LineCollator(0)
    monkeypatch.setattr(curves, "time", clock)
    following = Curves(board, collator)
    following.on_train_begin(None, state(0), None)
    for step in (1, 2):
        clock.now += 2
        collator.tokens += 300
        following.on_log(None, state(step), None, LOGS)
    shown = board.progress
    assert (shown.step, shown.total_steps, shown.epoch) == (2, 10, 0.4)
    assert (shown.loss, shown.token_accuracy) == (1.5, 0.5)
    assert (shown.learning_rate, shown.gradient_norm) == (1e-3, 0.5)
    assert shown.tokens_per_second == 150
    assert shown.seconds_left == 16


def test_rates_are_those_of_late_and_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, board, collator = Clock(), Board(), LineCollator(0)
    monkeypatch.setattr(curves, "time", clock)
    following = Curves(board, collator)
    resumed = SimpleNamespace(global_step=100, max_steps=200, epoch=1.0)
    following.on_train_begin(None, resumed, None)
    for step in range(101, 151):
        clock.now += 10 if step <= 130 else 1  # slow at first
        collator.tokens += 100
        resumed.global_step = step
        following.on_log(None, resumed, None, LOGS)
    assert board.progress.tokens_per_second == 100
    assert board.progress.seconds_left == 50


@pytest.mark.parametrize("figure", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_or_gradient_that_is_no_number_ends_the_run(figure: str, value: float) -> None:
    board = Board()
    with pytest.raises(FailedPrecondition, match="at step 7;") as ended:
        Curves(board, LineCollator(0)).on_log(None, state(7), None, {**LOGS, figure: value})
    assert ended.value.reason == "DIVERGED"
    assert board.progress.step == 0, "figures that are none are not shown"


@pytest.mark.parametrize("entry", [HISTORY[2], HISTORY[-1]])
def test_log_entries_that_are_no_steps_change_nothing(entry: dict[str, float]) -> None:
    board = Board()
    Curves(board, LineCollator(0)).on_log(None, state(4), None, entry)
    assert board.progress.step == 0


def told(board: Board, what: str) -> None:
    getattr(board, what).set()


@pytest.mark.parametrize(("what", "end"), [("stop", Stopped), ("pause", GaveBack)])
def test_a_run_that_is_told_to_ends_when_its_step_is_in_the_log(
    what: str, end: type[Exception]
) -> None:
    board = Board()
    following = Curves(board, LineCollator(0))
    following.on_log(None, state(1), None, LOGS)
    told(board, what)
    with pytest.raises(end):
        following.on_log(None, state(2), None, LOGS)
    assert board.progress.step == 2, "which is on the board, too"
    assert board.beats == 2


@pytest.mark.parametrize(("what", "end"), [("stop", Stopped), ("pause", GaveBack)])
def test_a_run_that_is_told_to_ends_between_two_batches_of_an_evaluation(
    what: str, end: type[Exception]
) -> None:
    board = Board()
    following = Curves(board, LineCollator(0))
    following.on_prediction_step()
    assert board.beats == 1
    told(board, what)
    with pytest.raises(end):
        following.on_prediction_step()
    assert board.beats == 2


def test_to_stop_is_stronger_than_to_pause() -> None:
    board = Board()
    board.check()
    board.pause.set()
    board.stop.set()
    with pytest.raises(Stopped):
        board.check()


def test_what_was_measured_is_the_median_of_the_steps_but_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, board, collator = Clock(), Board(), LineCollator(0)
    monkeypatch.setattr(curves, "time", clock)
    monkeypatch.setattr(curves, "peak_memory_bytes", lambda: 700)
    following = Curves(board, collator)
    assert following.measurement(above=0).step_count == 0
    assert following.measurement(above=0).tokens_per_second == 0
    following.on_train_begin(None, state(0), None)
    for step, seconds in enumerate((60, 1, 2, 4), start=1):
        clock.now += seconds
        collator.tokens += 100
        following.on_log(None, state(step), None, LOGS)
    measured = following.measurement(above=200)
    assert (measured.tokens_per_second, measured.step_count) == (50, 3)
    assert (measured.device_class, measured.peak_memory_bytes) == ("cpu", 500)
