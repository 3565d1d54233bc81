"""Measures serving beside who else serves adapters: `python -m benchmarks.inference`."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.inference.parts import PARTS, measured
from benchmarks.inference.report import InferenceResults, facts, precisions

_RESULTS = Path("benchmarks/results")


def main() -> None:
    """Measure, print the table, and write the results of a whole run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything, to try it out")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some parts", metavar="PART")
    parser.add_argument("--out", type=Path, help=f"folder of results (a whole run: {_RESULTS})")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    whole = not arguments.quick and not arguments.only
    scale = "quick" if arguments.quick else "full"
    found, start, parts = facts(), time.perf_counter(), {}
    for name in arguments.only or list(PARTS):
        begun = time.perf_counter()
        with (
            console.status(f"measuring: {name}"),
            tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder,
        ):
            parts[name] = measured(name, scale, Path(folder))
        for note in parts[name].notes:
            console.print(f"- {note}", markup=False)
        console.print(f"  ({name}: {time.perf_counter() - begun:.0f} s)", markup=False)
    results = InferenceResults(found, parts, time.perf_counter() - start)
    console.print(results.table())
    if "precisions" in parts:
        console.print("\n".join(precisions(parts["precisions"].details["rows"])))
    if out := arguments.out or (_RESULTS if whole else None):
        results.write(out)
        console.print(f"written: {out}/inference.md, {out}/inference.json")


if __name__ == "__main__":
    main()
