"""Which checkpoint a run goes on from, and when one is taken."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from luthier_trainer.run import checkpoints
from luthier_trainer.run.checkpoints import ByTime, folder, last


def save(run: Path, step: int, *, state: str | None = "") -> Path:
    """Leave a checkpoint; `state` is the text of the file that is written last, None for none."""
    path = folder(run) / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    if state is not None:
        text = state or json.dumps({"global_step": step})
        (path / "trainer_state.json").write_text(text)
    return path


def test_a_run_that_never_saved_starts_from_nothing(tmp_path: Path) -> None:
    assert last(tmp_path) is None
    folder(tmp_path).mkdir()
    assert last(tmp_path) is None


def test_the_newest_is_that_of_the_most_steps(tmp_path: Path) -> None:
    kept = [save(tmp_path, step) for step in (100, 9, 30)]
    assert last(tmp_path) == kept[0]
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("state", [None, '{"global_step": 4', "{}", "\x00\x00"])
def test_a_half_written_one_is_removed_and_the_one_before_taken(
    tmp_path: Path, state: str | None
) -> None:
    complete = save(tmp_path, 20)
    half = save(tmp_path, 40, state=state)
    assert last(tmp_path) == complete
    assert not half.exists()


def test_with_nothing_but_a_half_written_one_a_run_starts_from_nothing(tmp_path: Path) -> None:
    half = save(tmp_path, 40, state=None)
    assert last(tmp_path) is None
    assert not half.exists()


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path) -> None:
    other = folder(tmp_path) / "README.md"
    other.parent.mkdir()
    other.write_text("mine")
    assert last(tmp_path) is None
    assert other.read_text() == "mine"


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def wants_saving(by_time: ByTime) -> bool:
    control = SimpleNamespace(should_save=False)
    by_time.on_step_end(None, None, control)
    return bool(control.should_save)


def test_one_is_taken_every_twenty_seconds_counted_from_the_end_of_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(checkpoints, "time", clock)
    by_time = ByTime()
    assert not wants_saving(by_time)
    clock.now += 19.9
    assert not wants_saving(by_time)
    clock.now += 0.1
    assert wants_saving(by_time)
    clock.now += 5  # so long does saving take
    by_time.on_save()
    clock.now += 19.9
    assert not wants_saving(by_time)
    clock.now += 0.1
    assert wants_saving(by_time)
