"""Measures runs beside their estimates: `python -m benchmarks.preflight`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luthier_standalone.demo.machine import machine_facts
from luthier_trainer.preflight.memory import CPU, estimate
from rich.console import Console

from benchmarks.preflight.configurations import CONFIGURATIONS, Configuration, Use
from benchmarks.preflight.fitting import Case, fitted
from benchmarks.preflight.measuring import THREADS, inventory_of, measure, setup_for
from benchmarks.preflight.page import PAGE, filled, markdown

_RESULTS = Path("benchmarks/results")
_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "safetensors")


def main() -> None:
    """Measure, print, and write results and page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preflight", description=__doc__)
    names = [one.name for one in CONFIGURATIONS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="some; no writing")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    arguments = parser.parse_args()
    if arguments.page:
        _write_page(json.loads((_RESULTS / "preflight.json").read_text()))
        return
    console, facts, rows, cases = Console(highlight=False), _facts(), [], []
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        for one in CONFIGURATIONS:
            if arguments.only and one.name not in arguments.only:
                continue
            row, case = _row(one, Path(folder))
            rows.append(row)
            cases += [case] if one.use is Use.FITTED else []
            console.print(f"{one.name}: {row['peak'] / 1e6:,.0f} MB, {_error(row):+.1%}")
    if arguments.only:
        return
    results = {"facts": facts, "constants": _constants(cases), "rows": rows}
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    (_RESULTS / "preflight.json").write_text(text, encoding="utf-8")
    (_RESULTS / "preflight.md").write_text(markdown(results), encoding="utf-8")
    _write_page(results)
    console.print(f"written: {_RESULTS}/preflight.md, {_RESULTS}/preflight.json, {PAGE}")


def _row(one: Configuration, folder: Path) -> tuple[dict[str, Any], Case]:
    model = folder / one.model
    if not model.exists():
        command = [sys.executable, "-m", "benchmarks.preflight.models", one.model, str(model)]
        subprocess.run(command, check=True, capture_output=True)
    inventory = inventory_of(model)
    setup, peak = setup_for(one, inventory), measure(one, model)
    memory = estimate(inventory, setup, CPU)
    parts = {field.name: value for field, value in memory.ListFields()}
    row = {
        "name": one.name,
        "use": one.use.value,
        "parameters": inventory.parameters,
        "lines": setup.lines,
        "line_tokens": setup.line_tokens,
        "baseline": peak.baseline,
        "peak": peak.peak,
        "estimate": parts,
    }
    return row, (inventory, setup, peak.peak)


def _error(row: dict[str, Any]) -> float:
    return float(row["estimate"]["total_bytes"] / row["peak"] - 1)


def _constants(cases: list[Case]) -> dict[str, float]:
    """The constants in use, and those that this run's fitting half gives."""
    machine = fitted(cases)
    return {
        "fixed_bytes": CPU.fixed_bytes,
        "heap_share": CPU.heap_share,
        "fitted_fixed_bytes": machine.fixed_bytes,
        "fitted_heap_share": round(machine.heap_share, 3),
    }


def _facts() -> dict[str, str]:
    machine = machine_facts()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": machine["processor"],
        "cores": machine["cores"],
        "memory": machine["memory"],
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "load average before the start": f"{os.getloadavg()[0]:.2f}",
        "threads of a run": THREADS,
        "python": machine["python"],
        **{name: version(name) for name in _PACKAGES},
    }


def _write_page(results: dict[str, Any]) -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
