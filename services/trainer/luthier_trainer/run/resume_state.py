"""Resume states: all that a run needs to go on as if nothing had happened.

    state-{step}/weights.safetensors    what is tuned
                 optimizer.safetensors  the tensors of the optimizer's state, and optimizer.json
                 rng.safetensors        of torch; Python's and numpy's are in rng.json
                 scheduler.json
                 trainer_state.json     step, epoch (so the data's position) and history
                 best.safetensors       the best weights by validation so far, if any
                 manifest.json          every other file's size and SHA-256; written last

A folder without a sound manifest does not count. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from bitsandbytes.optim.optimizer import Optimizer8bit
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import Trainer

BEST = "best.safetensors"
MANIFEST = "manifest.json"
_WEIGHTS, _OPTIMIZER, _OPTIMIZER_REST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "optimizer.json",
)
_RNG, _RNG_REST, _SCHEDULER, _STATE = (
    "rng.safetensors",
    "rng.json",
    "scheduler.json",
    "trainer_state.json",
)
_NEEDED = {_WEIGHTS, _OPTIMIZER, _OPTIMIZER_REST, _RNG, _RNG_REST, _SCHEDULER, _STATE}
_KEPT = 2
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_BNB_STATE = Optimizer8bit._FSDP_WRAPPED_QUANT_STATE_KEY


def save(trainer: Trainer, folder: Path, best: Path | None) -> Path:
    """Save the state of `trainer` below `folder` and return where; older ones but one are removed.

    It appears whole or not at all, and is on the disk when this returns. OSError.
    """
    target = folder_of(folder, trainer.state.global_step)
    unfinished = folder / f".{target.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with os_errors():
            save_file(_tuned(trainer.model), unfinished / _WEIGHTS)
            _save_optimizer(trainer.optimizer, unfinished)
            _save_rng(unfinished)
        _write_json(unfinished / _SCHEDULER, trainer.lr_scheduler.state_dict())
        trainer.state.save_to_json(str(unfinished / _STATE))
        if best is not None:
            os.link(best, unfinished / BEST)
        _finish(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    _sync(folder)
    for old in _by_step(folder)[:-_KEPT]:
        shutil.rmtree(old)
    return target


def newest(folder: Path) -> Path | None:
    """Return the sound state of the most steps below `folder`, at any depth; None without one.

    What is not sound is left alone: it may be in the making.
    """
    for state in reversed(_by_step(folder)):
        if is_sound(state):
            return state
    return None


def files_of(state: Path) -> list[str]:
    """Return the names of a state's files, the manifest's included."""
    return sorted(path.name for path in state.iterdir())


def folder_of(states: Path, step: int) -> Path:
    """Return where the state of a step is, below the folder of its run's states."""
    return states / f"state-{step}"


def step_of(state: Path) -> int:
    """Return the steps that were done when a state was saved, from its name."""
    return int(state.name.removeprefix("state-"))


def is_sound(state: Path) -> bool:
    """Whether every file of a state is what its manifest says."""
    try:
        manifest = json.loads((state / MANIFEST).read_text(encoding="utf-8"))
        if not _NEEDED <= manifest.keys() == set(files_of(state)) - {MANIFEST}:
            return False
        return all(_entry(state / name) == entry for name, entry in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def load_weights(model: torch.nn.Module, file: Path) -> None:
    """Put the tuned weights of a state, or the best ones, into a model; KeyError if they differ."""
    saved = load_file(file)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(saved.pop(name))
    if saved:
        raise KeyError(next(iter(saved)))


def load_state_weights(model: torch.nn.Module, state: Path) -> None:
    """Put the tuned weights of a state into a model."""
    load_weights(model, state / _WEIGHTS)


def load_optimizer(trainer: Trainer, state: Path) -> None:
    """Restore optimizer and scheduler."""
    tensors = load_file(state / _OPTIMIZER)
    rest = json.loads((state / _OPTIMIZER_REST).read_text(encoding="utf-8"))
    values: dict[int, dict[str, Any]] = {
        int(number): dict(entry) for number, entry in rest["state"].items()
    }
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        values[int(number)][name] = tensor
    trainer.optimizer.load_state_dict({"state": values, "param_groups": rest["param_groups"]})
    scheduler = json.loads((state / _SCHEDULER).read_text(encoding="utf-8"))
    trainer.lr_scheduler.load_state_dict(scheduler)


def load_rng(state: Path) -> None:
    """Restore the random number generators."""
    rest = json.loads((state / _RNG_REST).read_text(encoding="utf-8"))
    version, numbers, gauss = rest["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *others = rest["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *others))
    saved = load_file(state / _RNG)
    torch.set_rng_state(saved["cpu"])
    if torch.cuda.is_available() and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"])


def save_weights(model: torch.nn.Module, file: Path) -> None:
    """Write what is tuned to a file, which appears whole or not at all. OSError."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with os_errors():
            save_file(_tuned(model), unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """Raise what safetensors says of the disk as what it is, an OSError."""
    try:
        yield
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number.group(1)), str(error)) from error


def _tuned(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: weight.detach().contiguous().cpu()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _save_optimizer(optimizer: Any, folder: Path) -> None:
    given = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    rest: dict[str, dict[str, Any]] = {}
    for number, state in given["state"].items():
        # bitsandbytes keeps its tensors from FSDP in a dict of their own, and takes them back flat.
        entry = {**state, **state.get(_BNB_STATE, {})}
        entry.pop(_BNB_STATE, None)
        rest[str(number)] = {
            name: value for name, value in entry.items() if not isinstance(value, torch.Tensor)
        }
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                # A copy: 8-bit optimizers share their tables between weights.
                tensors[f"{number}.{name}"] = value.detach().cpu().contiguous().clone()
    save_file(tensors, folder / _OPTIMIZER)
    groups = {"state": rest, "param_groups": given["param_groups"]}
    _write_json(folder / _OPTIMIZER_REST, groups)


def _save_rng(folder: Path) -> None:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, folder / _RNG)
    version, numbers, gauss = random.getstate()
    kind, keys, *others = cast(tuple[Any, ...], np.random.get_state())
    rest = {"python": [version, list(numbers), gauss], "numpy": [kind, keys.tolist(), *others]}
    _write_json(folder / _RNG_REST, rest)


def _finish(folder: Path) -> None:
    files = sorted(path for path in folder.iterdir())
    for path in files:
        _sync(path)
    _write_json(folder / MANIFEST, {path.name: _entry(path) for path in files})
    _sync(folder / MANIFEST)
    _sync(folder)


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size_bytes": path.stat().st_size, "sha256": digest}


def _by_step(folder: Path) -> list[Path]:
    return sorted(folder.rglob("state-*"), key=step_of)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
