"""Measures the dataset service: `python -m benchmarks.datasets`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from benchmarks.datasets import chunking, growth, near, pdf, validation
from benchmarks.datasets.measuring import FULL, QUICK, Measurement, Scale
from benchmarks.datasets.report import Results, facts

_PARTS: Mapping[str, Callable[[Scale, Path], Measurement]] = {
    "pdf": pdf.measure,
    "near": near.measure,
    "chunking": chunking.measure,
    "validation": validation.measure,
    "growth": growth.measure,
}
_RESULTS = Path("benchmarks/results")


def main() -> None:
    """Measure, print the table, and write the results of a whole run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datasets", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything, to try it out")
    parser.add_argument("--only", nargs="+", choices=_PARTS, help="some parts", metavar="PART")
    parser.add_argument("--out", type=Path, help=f"folder of results (a whole run: {_RESULTS})")
    arguments = parser.parse_args()
    names = arguments.only or list(_PARTS)
    console = Console(highlight=False)
    found = facts()
    start = time.perf_counter()
    parts = {}
    for name in names:
        with (
            console.status(f"measuring: {name}"),
            tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder,
        ):
            parts[name] = _PARTS[name](QUICK if arguments.quick else FULL, Path(folder))
        for note in parts[name].notes:
            console.print(f"- {note}", markup=False)
    results = Results(found, parts, time.perf_counter() - start)
    console.print(results.table())
    whole = not arguments.quick and not arguments.only
    if out := arguments.out or (_RESULTS if whole else None):
        results.write(out)
        console.print(f"written: {out}/datasets.md, {out}/datasets.json")


if __name__ == "__main__":
    main()
