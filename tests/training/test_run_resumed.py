"""Runs that were interrupted end as those that were not, whatever they tune and however."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import ADAMW_8BIT, BF16, FP32, FULL, PAGED_ADAMW
from luthier_trainer.run import resume_state, schedule
from luthier_trainer.run.report import Board, GaveBack
from luthier_trainer.run.tune import STATES
from safetensors import SafetensorError
from safetensors.torch import save_file

from tests.support.tiny_runs import CHAT, PAIR, PREFERENCE, STEPS, Run, inputs_of, run


class Pausing(Board):
    """A board that tells the run to give its device back after some step."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def check(self) -> None:
        if self.progress.step == self._after:
            self.pause.set()
        super().check()


ONCE, OFTEN = [3], [1, 3, 4]
"""Steps after which a run is interrupted; behind the last, all that is left is to judge."""
METHODS: dict[str, tuple[str, list[int], dict[str, Any]]] = {
    "qlora": (CHAT, OFTEN, {"lora_dropout": 0.1, "judged": True}),
    "packed buckets": (
        CHAT,
        ONCE,
        {"packing": False, "length_buckets": True, "micro_batch_size": 3},
    ),
    "full": (CHAT, OFTEN, {"tuning_mode": FULL, "base_precision": FP32, "judged": True}),
    "full, bf16": (CHAT, ONCE, {"tuning_mode": FULL, "base_precision": BF16}),
    "8 bits": (CHAT, ONCE, {"optimizer": ADAMW_8BIT, "lora_rank": 128}),
    "full, paged": (
        CHAT,
        ONCE,
        {"tuning_mode": FULL, "base_precision": BF16, "optimizer": PAGED_ADAMW},
    ),
    "t5": (PAIR, ONCE, {"lora_dropout": 0.1}),
    "dpo": (PREFERENCE, OFTEN, {"learning_rate": 4e-3, "judged": True}),
    "dpo, full": (
        PREFERENCE,
        ONCE,
        {"learning_rate": 2e-4, "tuning_mode": FULL, "base_precision": FP32},
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    method: str, llama: Path, t5: Path, rows: Path, tmp_path: Path
) -> None:
    kind, interrupted, chosen = METHODS[method]
    base = t5 if kind == PAIR else llama

    def inputs_in(name: str, epoch: int = 1) -> Any:
        options = {"epoch_count": 2, **chosen}
        inputs = inputs_of(base, rows, tmp_path / name, kind, **options)
        return dataclasses.replace(inputs, epoch=epoch)

    unbroken = run(inputs_in("unbroken"))
    for epoch, after in enumerate(interrupted, start=1):
        with pytest.raises(GaveBack):
            run(inputs_in("broken", epoch), Pausing(after))
        state = resume_state.newest(tmp_path / "broken" / STATES)
        assert state is not None
        assert resume_state.step_of(state) == after
        assert state.parent.name == str(epoch)
    resumed = run(inputs_in("broken", 4))
    assert resumed.table == unbroken.table
    assert resumed.files == unbroken.files
    assert resumed.outputs.metrics == unbroken.outputs.metrics
    assert resumed.outputs.best_step == unbroken.outputs.best_step


def test_preferences_that_begin_with_an_adapter_are_resumed_against_it(
    llama: Path, rows: Path, tmp_path: Path
) -> None:
    first = run(inputs_of(llama, rows, tmp_path / "first", epoch_count=1))

    def inputs_in(name: str) -> Any:
        options: dict[str, Any] = {"epoch_count": 2, "learning_rate": 4e-3}
        inputs = inputs_of(llama, rows, tmp_path / name, PREFERENCE, **options)
        return dataclasses.replace(inputs, start_adapter=first.folder)

    unbroken = run(inputs_in("unbroken"))
    with pytest.raises(GaveBack):
        run(inputs_in("broken"), Pausing(2))
    resumed = run(inputs_in("broken"))
    assert resumed.losses == unbroken.losses
    assert resumed.files == unbroken.files


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a state saved after every step."""
    monkeypatch.setattr(schedule, "_PERIOD_SECONDS", 0.0)
    monkeypatch.setattr(schedule, "_MOST_SHARE", 1e9)


@pytest.fixture
def plain(llama: Path, rows: Path, tmp_path: Path) -> Run:
    return run(inputs_of(llama, rows, tmp_path / "plain"))


def test_every_state_is_offered_to_be_committed(
    llama: Path, rows: Path, tmp_path: Path, plain: Run, often: None
) -> None:
    board = Board()
    saving = run(inputs_of(llama, rows, tmp_path / "saving"), board)
    offered = [board.states.get() for _ in range(board.states.qsize())]
    assert [resume_state.step_of(state) for state in offered][:STEPS] == list(range(1, STEPS + 1))
    assert saving.files == plain.files, "saving changes nothing"


def test_a_full_disk_does_not_end_the_run(
    llama: Path,
    rows: Path,
    tmp_path: Path,
    plain: Run,
    often: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume_state, "_save_optimizer", full)
    tuned = run(inputs_of(llama, rows, tmp_path / "full"))
    assert tuned.files == plain.files
    assert any("no room on the disk" in said for said in tuned.said)
    assert resume_state.newest(tmp_path / "full" / STATES) is None


FULL_DISK = "Error while serializing: I/O error: No space left on device (os error 28)"
"""What safetensors 0.8 says of a disk that is full, as seen on one."""


def test_a_disk_that_is_full_under_safetensors_does_not_end_the_run(
    llama: Path,
    rows: Path,
    tmp_path: Path,
    plain: Run,
    often: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError(FULL_DISK)

    monkeypatch.setattr(resume_state, "save_file", full)
    tuned = run(inputs_of(llama, rows, tmp_path / "full", judged=True))
    # The probes differ: each has the rows that its run judged, or tuned on.
    of_weights = slice(2)
    assert tuned.files[of_weights] == plain.files[of_weights], (
        "of the last step, since the best could not be kept"
    )
    for what in ("the run's state", "the best weights"):
        assert any(f"no room on the disk for {what}" in said for said in tuned.said)
    assert resume_state.newest(tmp_path / "full" / STATES) is None
    assert not list((tmp_path / "full").glob(".*"))


def test_another_error_of_safetensors_stays_one(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError, match="another"), resume_state.os_errors():
        raise SafetensorError("another")
    with pytest.raises(OSError, match="No space left") as full, resume_state.os_errors():
        raise SafetensorError(FULL_DISK)
    assert full.value.errno == errno.ENOSPC


def test_a_state_that_is_sound_but_useless_is_thrown_away(
    llama: Path, rows: Path, tmp_path: Path, plain: Run, often: None
) -> None:
    with pytest.raises(GaveBack):
        run(inputs_of(llama, rows, tmp_path / "broken"), Pausing(3))
    states = tmp_path / "broken" / STATES
    newest = resume_state.newest(states)
    assert newest is not None
    save_file({"other": torch.zeros(1)}, newest / "weights.safetensors")
    for path in newest.iterdir():
        if path.name == resume_state.MANIFEST:
            path.unlink()
    resume_state._finish(newest)
    assert resume_state.newest(states) == newest
    with pytest.raises(KeyError):
        run(inputs_of(llama, rows, tmp_path / "broken"))
    assert not newest.exists()
    older = resume_state.newest(states)
    assert older is not None
    assert resume_state.step_of(older) == 2
    assert run(inputs_of(llama, rows, tmp_path / "broken")).files == plain.files
