"""The results: a table for the terminal, Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from luthier_standalone.demo.machine import machine_facts
from rich.table import Table

from benchmarks.datasets.measuring import Measurement, Outcome

_PACKAGES = (
    "luthier",
    "pypdfium2",
    "markitdown",
    "reportlab",
    "rensa",
    "datasketch",
    "numpy",
    "tokenizers",
    "langchain-text-splitters",
    "transformers",
    "msgspec",
    "datasets",
    "pyarrow",
)
_COLUMNS = ("what", "Luthier", "beside", "measured", "goal", "met")


@dataclass(frozen=True)
class Results:
    """Everything one run found, and on what."""

    facts: Mapping[str, str]
    parts: Mapping[str, Measurement]
    seconds: float

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of all parts."""
        return [outcome for part in self.parts.values() for outcome in part.outcomes]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the table."""
        return [
            (
                one.what,
                one.ours,
                one.theirs,
                f"{one.measured:,.2f}{one.unit}",
                f"{'≤' if one.at_most else '≥'} {one.goal:g}{one.unit}",
                "yes" if one.met else "no",
            )
            for one in self.outcomes()
        ]

    def table(self) -> Table:
        """Return the table for a terminal."""
        table = Table(*_COLUMNS)
        for row in self.rows():
            table.add_row(*row, style="green" if row[-1] == "yes" else "red")
        return table

    def markdown(self) -> str:
        """Return the results for people."""
        lines = ["# Datasets: speed and size", "", "Made by `make bench-datasets`; see"]
        lines[-1] += " [what is measured](../README.md)."
        lines += ["", _line(_COLUMNS), _line(["---"] * len(_COLUMNS)), *map(_line, self.rows())]
        notes = [note for part in self.parts.values() for note in part.notes]
        lines += ["", *(f"- {note}" for note in notes), "", "## The machine", ""]
        lines += [_line(("", "")), _line(("---", "---")), *map(_line, self.facts.items())]
        return "\n".join([*lines, "", f"The run took {self.seconds / 60:.0f} minutes.", ""])

    def json(self) -> str:
        """Return the results for programs."""
        parts = {
            name: {
                "outcomes": [{**asdict(one), "met": one.met} for one in part.outcomes],
                "notes": part.notes,
                **part.details,
            }
            for name, part in self.parts.items()
        }
        found = {"facts": dict(self.facts), "seconds": self.seconds, "parts": parts}
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write datasets.md and datasets.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "datasets.md").write_text(self.markdown(), encoding="utf-8")
        (folder / "datasets.json").write_text(self.json(), encoding="utf-8")


def facts() -> dict[str, str]:
    """Return what the figures are measured on, and how busy that is before the start."""
    machine = machine_facts()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": machine["processor"],
        "cores": machine["cores"],
        "memory": machine["memory"],
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load average before the start": f"{os.getloadavg()[0]:.2f}",
        "python": machine["python"],
        **{package: version(package) for package in _PACKAGES},
    }


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
