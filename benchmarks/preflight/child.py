"""One short run in a process of its own, and how much memory it held: prints one line of JSON.

`python -m benchmarks.preflight.child CONFIGURATION MODEL FOLDER`, the first as JSON.
"""

from __future__ import annotations

import json
import random
import resource
import string
import sys
from pathlib import Path
from typing import Any

from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters
from luthier_trainer.run.report import Board
from luthier_trainer.run.tune import Inputs, tune

_STEPS = 3


def main() -> None:
    """Run and measure."""
    configuration: dict[str, Any] = json.loads(sys.argv[1])
    model, folder = Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True)
    tokens = configuration["line_tokens"]
    inputs = Inputs(
        model=model,
        model_name="projects/library/baseModels/bench",
        context_tokens=tokens,
        parameters=1,
        training_rows=_rows(configuration, folder / "rows.jsonl"),
        validation_rows=None,
        general_rows=None,
        hyperparameters=ResolvedHyperparameters(**configuration["settings"]),
        seed=1,
        folder=folder,
        preference=configuration["method"] == "preference",
    )
    baseline = _resident()
    _forget_peak()
    tune(inputs, Board())
    print(json.dumps({"baseline": baseline, "peak": _peak() - baseline}), flush=True)


def _rows(configuration: dict[str, Any], path: Path) -> Path:
    """Write rows for some steps that all fill their lines."""
    count = _STEPS * configuration["settings"]["batch_size"]
    size = configuration["line_tokens"]
    chance = random.Random(0)
    make = {"text": _text, "pair": _pair, "preference": _preference}[configuration["method"]]
    path.write_text("".join(json.dumps(make(chance, size)) + "\n" for _ in range(count)))
    return path


def _text(chance: random.Random, size: int) -> dict[str, Any]:
    return {"text": _letters(chance, size - 1)}  # an end-of-sequence token closes it


def _pair(chance: random.Random, size: int) -> dict[str, Any]:
    return {"prompt": _letters(chance, size - 1), "completion": _letters(chance, size - 1)}


def _preference(chance: random.Random, size: int) -> dict[str, Any]:
    """A prompt of some tokens and two answers that fill the line; see the tokenizer's template."""
    answers = [{"role": "assistant", "content": _letters(chance, size - 12)} for _ in range(2)]
    asked = {"messages": [{"role": "user", "content": _letters(chance, 8)}]}
    return {"input": asked, "preferred_output": answers[:1], "non_preferred_output": answers[1:]}


def _letters(chance: random.Random, count: int) -> str:
    """Return text that the byte tokenizer makes `count` tokens of."""
    return "".join(chance.choices(string.ascii_letters, k=count))


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _forget_peak() -> None:
    """Have Linux count the peak anew (proc(5), clear_refs), so that imports are not in it."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("Linux tells every process's peak")


if __name__ == "__main__":
    main()
