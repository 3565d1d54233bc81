"""Measures the trainer beside its peers: `python -m benchmarks.trainer`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from benchmarks.datasets.measuring import Measurement
from benchmarks.trainer import overhead, quantized, speed
from benchmarks.trainer.racing import FACTORY_PYTHON, FULL, QUICK, Scale
from benchmarks.trainer.report import TrainerResults, facts

_PARTS: Mapping[str, Callable[[Scale, Path], Measurement]] = {
    "speed": speed.measure,
    "quantized": quantized.measure,
    "overhead": overhead.measure,
}
_RESULTS = Path("benchmarks/results")


def main() -> None:
    """Measure, print the table, and write the results of a whole run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainer", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything, to try it out")
    parser.add_argument("--only", nargs="+", choices=_PARTS, help="some parts", metavar="PART")
    parser.add_argument("--out", type=Path, help=f"folder of results (a whole run: {_RESULTS})")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    whole = not arguments.quick and not arguments.only
    if whole and not FACTORY_PYTHON.exists():
        parser.error("LLaMA-Factory is not installed; `make bench-trainer` does that")
    found, start, parts = facts(), time.perf_counter(), {}
    for name in arguments.only or list(_PARTS):
        with (
            console.status(f"measuring: {name}"),
            tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder,
        ):
            parts[name] = _PARTS[name](QUICK if arguments.quick else FULL, Path(folder))
        for note in parts[name].notes:
            console.print(f"- {note}", markup=False)
    results = TrainerResults(found, parts, time.perf_counter() - start)
    console.print(results.table())
    if out := arguments.out or (_RESULTS if whole else None):
        results.write(out)
        console.print(f"written: {out}/trainer.md, {out}/trainer.json")


if __name__ == "__main__":
    main()
