"""Resume states: whole or not there, and all that a run needs to go on."""

import errno
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit, PagedAdamW32bit
from luthier_trainer.run import resume_state
from safetensors.torch import load_file
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerState

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adamw": AdamW,
    "8 bits": AdamW8bit,
    "paged": PagedAdamW32bit,
    "paged, 8 bits": PagedAdamW8bit,
}
FILES = [
    "manifest.json",
    "optimizer.json",
    "optimizer.safetensors",
    "rng.json",
    "rng.safetensors",
    "scheduler.json",
    "trainer_state.json",
    "weights.safetensors",
]


def trainer(optimizer: Callable[..., Any] = AdamW, dtype: torch.dtype = torch.float32) -> Any:
    """Return what a state is saved of: a large matrix, a small one, and one that is not tuned."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.Linear(128, 8), torch.nn.Linear(8, 8)
    ).to(dtype)
    model[2].requires_grad_(False)
    made = optimizer([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    return SimpleNamespace(
        model=model,
        optimizer=made,
        lr_scheduler=LambdaLR(made, lambda step: 1 / (1 + step)),
        state=TrainerState(global_step=0, max_steps=10),
    )


def learn(of: Any, steps: int = 1) -> Any:
    for _ in range(steps):
        chance = torch.Generator().manual_seed(of.state.global_step)
        for weight in of.model.parameters():
            if weight.requires_grad:
                weight.grad = torch.randn(weight.shape, generator=chance).to(weight.dtype)
        of.optimizer.step()
        of.lr_scheduler.step()
        of.state.global_step += 1
    return of


def load(of: Any, state: Path) -> Any:
    resume_state.load_state_weights(of.model, state)
    resume_state.load_optimizer(of, state)
    of.state = TrainerState.load_from_json(str(state / "trainer_state.json"))
    return of


def moments(of: Any) -> Iterator[tuple[str, Any]]:
    for number, entry in enumerate(of.optimizer.state.values()):
        for name, value in sorted(entry.items()):
            yield f"{number}.{name}", value


def assert_same(one: Any, other: Any) -> None:
    """Assert that two trainers are at the same point, to the bit."""
    for weight, its in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(weight, its)
    for (name, value), (its_name, its_value) in zip(moments(one), moments(other), strict=True):
        assert name == its_name
        if isinstance(value, torch.Tensor):
            assert value.dtype == its_value.dtype, name
            assert torch.equal(value, its_value), name
        else:
            assert value == its_value, name
    assert one.lr_scheduler.get_last_lr() == other.lr_scheduler.get_last_lr()
    assert one.optimizer.param_groups[0]["lr"] == other.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_state_brings_back_weights_and_optimizer(
    optimizer: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    first = learn(trainer(OPTIMIZERS[optimizer], dtype), 3)
    state = resume_state.save(first, tmp_path, best=None)
    second = load(trainer(OPTIMIZERS[optimizer], dtype), state)
    assert_same(first, second)
    assert_same(learn(first, 2), learn(second, 2))
    if "8 bits" in optimizer:
        kept = load_file(state / "optimizer.safetensors")
        assert kept["0.state1"].dtype == torch.uint8, "64 x 128 weights"
        assert kept["2.state1"].dtype == torch.float32, "128 x 8 are too few"


def test_weights_that_are_not_tuned_are_not_stored(tmp_path: Path) -> None:
    state = resume_state.save(learn(trainer()), tmp_path, best=None)
    names = {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert load_file(state / "weights.safetensors").keys() == names


def test_a_state_of_other_weights_is_refused(tmp_path: Path) -> None:
    state = resume_state.save(learn(trainer()), tmp_path, best=None)
    less = trainer()
    less.model[1].requires_grad_(False)
    more = trainer()
    more.model[2].requires_grad_(True)
    for other in (less, more):
        with pytest.raises(KeyError):
            resume_state.load_state_weights(other.model, state)


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_state_brings_back_chance(tmp_path: Path) -> None:
    state = resume_state.save(learn(trainer()), tmp_path, best=None)
    expected = [draw() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    resume_state.load_rng(state)
    assert [draw() for _ in range(3)] == expected


def test_nothing_in_a_state_is_pickled(tmp_path: Path) -> None:
    state = resume_state.save(learn(trainer(AdamW8bit)), tmp_path, best=None)
    assert resume_state.files_of(state) == FILES
    for path in state.iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.suffix == ".safetensors"
            load_file(path)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    of = trainer()
    states = [resume_state.save(learn(of), tmp_path, best=None) for _ in range(12)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-11", "state-12"]
    assert resume_state.newest(tmp_path) == states[-1]
    assert resume_state.step_of(states[-1]) == 12


def test_a_state_that_is_saved_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    of = learn(trainer())
    state = resume_state.save(of, tmp_path, best=None)
    (state / "weights.safetensors").write_bytes(b"")
    assert resume_state.save(of, tmp_path, best=None) == state
    assert resume_state.is_sound(state)


def test_the_newest_is_that_of_the_most_steps_of_any_run(tmp_path: Path) -> None:
    assert resume_state.newest(tmp_path / "none") is None
    of = trainer()
    states = [resume_state.save(learn(of), tmp_path / folder, best=None) for folder in "2311"]
    assert resume_state.newest(tmp_path) == states[-1]
    assert resume_state.newest(tmp_path / "2") == states[0]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, shorten, Path.unlink])
@pytest.mark.parametrize("file", FILES)
def test_of_a_damaged_state_the_one_before_is_taken(
    file: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    of = trainer()
    older, newer = (resume_state.save(learn(of), tmp_path, best=None) for _ in range(2))
    assert resume_state.is_sound(newer)
    damage(newer / file)
    assert not resume_state.is_sound(newer)
    assert resume_state.newest(tmp_path) == older
    assert newer.exists(), "it may be in the making"
    damage(older / file)
    assert resume_state.newest(tmp_path) is None


@pytest.mark.parametrize("manifest", ["{}", "[]", "null", "3", '"a"', "", "{", '{"rng.json": {}}'])
def test_a_manifest_that_does_not_name_every_file_is_none(manifest: str, tmp_path: Path) -> None:
    state = resume_state.save(learn(trainer()), tmp_path, best=None)
    (state / "manifest.json").write_text(manifest)
    assert not resume_state.is_sound(state)


def test_a_file_that_the_manifest_does_not_name_is_not_trusted(tmp_path: Path) -> None:
    state = resume_state.save(learn(trainer()), tmp_path, best=None)
    manifest = json.loads((state / "manifest.json").read_text())
    del manifest["weights.safetensors"]
    (state / "manifest.json").write_text(json.dumps(manifest))
    assert not resume_state.is_sound(state)


@pytest.mark.parametrize("part", ["_save_optimizer", "_save_rng", "_finish"])
def test_a_state_that_cannot_be_finished_leaves_nothing(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = trainer()
    before = resume_state.save(learn(of), tmp_path, best=None)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume_state, part, full)
    with pytest.raises(OSError, match="No space left"):
        resume_state.save(learn(of), tmp_path, best=None)
    assert list(tmp_path.iterdir()) == [before]
    assert resume_state.newest(tmp_path) == before


def test_what_a_killed_run_has_half_written_is_neither_taken_nor_in_the_way(tmp_path: Path) -> None:
    of = trainer()
    before = resume_state.save(learn(of), tmp_path, best=None)
    half = tmp_path / ".state-2.unfinished"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert resume_state.newest(tmp_path) == before
    after = resume_state.save(learn(of), tmp_path, best=None)
    assert resume_state.newest(tmp_path) == after
    assert not half.exists()


def test_the_best_weights_are_kept_with_each_state(tmp_path: Path) -> None:
    of, best = learn(trainer()), tmp_path / resume_state.BEST
    resume_state.save_weights(of.model, best)
    first = resume_state.save(of, tmp_path / "states", best)
    weights = [weight.detach().clone() for weight in of.model.parameters()]
    resume_state.save_weights(learn(of).model, best)  # it has become better
    second = resume_state.save(of, tmp_path / "states", best)
    assert resume_state.is_sound(first)
    assert resume_state.is_sound(second)
    assert resume_state.BEST in resume_state.files_of(second)
    for state, expected in ((first, weights), (second, list(of.model.parameters()))):
        model = trainer().model
        resume_state.load_weights(model, state / resume_state.BEST)
        for weight, right in zip(model.parameters(), expected, strict=True):
            assert torch.equal(weight, right)
    flip(second / resume_state.BEST)
    assert resume_state.newest(tmp_path) == first
