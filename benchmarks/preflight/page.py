"""The generated tables of docs/preflight.md and benchmarks/results/preflight.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier_trainer.preflight.devices import GPUS, USABLE_SHARE

from benchmarks.preflight import paper

PAGE = Path("docs/preflight.md")
TOLERANCE = 0.15
_MARK = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
_MEASURED = ("configuration", "model", "pass", "measured", "estimated", "error", "used for")
_PAPER = ("model", "method", "paper", "estimated", "error")
_PARTS = (
    ("weights", "weight_bytes"),
    ("quantization", "quantization_bytes"),
    ("adapters", "adapter_bytes"),
    ("gradients", "gradient_bytes"),
    ("optimizer", "optimizer_bytes"),
    ("activations", "activation_bytes"),
    ("overhead", "overhead_bytes"),
)


def filled(page: str, results: Mapping[str, Any]) -> str:
    """Return the page with its tables made anew; KeyError for a mark that is not known."""
    made = {
        "measured": measured_table(results["rows"]),
        "constants": constants_table(results["constants"]),
        "summary": summary(results["rows"]),
        "paper": paper_table(),
        "assumptions": "\n".join(f"- {one}" for one in paper.ASSUMPTIONS),
        "devices": devices_table(),
    }
    return _MARK.sub(lambda at: f"<!-- table: {at[1]} -->\n{made[at[1]]}\n<!-- end -->", page)


def markdown(results: Mapping[str, Any]) -> str:
    """Return the results of a run of the benchmark, for people."""
    rows = results["rows"]
    facts = [(name, str(value)) for name, value in results["facts"].items()]
    return "\n".join(
        [
            "# Preflight: estimated and measured memory",
            "",
            "Made by `make bench-preflight`; what it means: [docs](../../docs/preflight.md).",
            "",
            summary(rows),
            "",
            measured_table(rows),
            "",
            "## Estimates by part, MB",
            "",
            _table(("configuration", *(name for name, _ in _PARTS)), map(_parts, rows)),
            "",
            "## The machine",
            "",
            _table(("", ""), facts),
            "",
        ]
    )


def measured_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return peaks beside their estimates."""
    return _table(
        _MEASURED,
        (
            (
                row["name"],
                f"{row['parameters'] / 1e6:.0f} M",
                f"{row['lines']} x {row['line_tokens']}",
                f"{row['peak'] / 1e6:,.0f} MB",
                f"{row['estimate']['total_bytes'] / 1e6:,.0f} MB",
                f"{error(row):+.1%}",
                row["use"],
            )
            for row in rows
        ),
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how many rows are within the tolerance, by what they are used for."""
    told = []
    for use in ("fitted", "checked", "unseen"):
        errors = [abs(error(row)) for row in rows if row["use"] == use]
        within = sum(one <= TOLERANCE for one in errors)
        told.append(f"{use}: {within} of {len(errors)} (largest error {max(errors):.1%})")
    return f"Within {TOLERANCE:.0%}: {'; '.join(told)}."


def constants_table(constants: Mapping[str, float]) -> str:
    """Return the constants in use and the ones that the fitting half gives."""
    return _table(
        ("constant", "in use", "this run's fit"),
        (
            (
                "`fixed_bytes`",
                f"{constants['fixed_bytes'] / 1e6:.0f} MB",
                f"{constants['fitted_fixed_bytes'] / 1e6:.0f} MB",
            ),
            (
                "`heap_share`",
                f"{constants['heap_share']:.2f}",
                f"{constants['fitted_heap_share']:.2f}",
            ),
        ),
    )


def paper_table() -> str:
    """Return the founding paper's figures beside their estimates."""
    return _table(
        _PAPER,
        (
            (
                row.model,
                row.method,
                f"{row.least:g}" if row.least == row.most else f"{row.least:g}-{row.most:g}",
                f"{paper.estimated(row):.1f}",
                f"{paper.error(row):+.0%}" if row.scored else "not scored",
            )
            for row in paper.ROWS
        ),
    )


def devices_table() -> str:
    """Return the device classes."""
    return _table(
        ("class", "memory", f"counted with ({USABLE_SHARE:.0%})", "bfloat16", "as its driver says"),
        (
            (
                f"`{gpu.name}`",
                f"{gpu.memory_bytes / 1e9:.0f} GB",
                f"{gpu.usable_bytes / 1e9:.1f} GB",
                "yes" if gpu.machine.has_bfloat16 else "no",
                ", ".join(gpu.models),
            )
            for gpu in GPUS
        ),
    )


def error(row: Mapping[str, Any]) -> float:
    """Return the error of an estimate, as a share of what was measured."""
    return float(row["estimate"]["total_bytes"] / row["peak"] - 1)


def _parts(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        *(f"{row['estimate'].get(field, 0) / 1e6:,.0f}" for _, field in _PARTS),
    )


def _table(columns: Sequence[str], rows: Any) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
