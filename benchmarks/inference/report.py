"""The results of serving: as those of the datasets, with other names and one more table."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from luthier_standalone.demo.machine import machine_facts

from benchmarks.datasets.report import Results
from benchmarks.inference.environments import LLAMA_CPP, VLLM

_HEADING = """# Serving: speed

Made by `make bench-inference`; see [what is measured](../inference/README.md).
"""
_MACHINE = "## The machine"


class InferenceResults(Results):
    """Everything one run found, and on what."""

    def markdown(self) -> str:
        """Return the results for people."""
        *_, body = super().markdown().split("\n", 3)
        page = _HEADING + body
        if "precisions" not in self.parts:
            return page
        rows = precisions(self.parts["precisions"].details["rows"])
        section = "\n".join(["## Precisions", "", *rows, "", _MACHINE])
        return page.replace(_MACHINE, section)

    def write(self, folder: Path) -> None:
        """Write inference.md and inference.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "inference.md").write_text(self.markdown(), encoding="utf-8")
        (folder / "inference.json").write_text(self.json(), encoding="utf-8")


def facts() -> dict[str, str]:
    """Return what the figures are measured on, and how busy that is before the start."""
    found = machine_facts()
    found["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    found |= {one.package: one.version() for one in (VLLM, LLAMA_CPP)}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "load average before the start": f"{os.getloadavg()[0]:.2f}",
        **found,
    }


def precisions(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of the precisions, in Markdown."""
    head = (
        "precision",
        "weights in memory",
        "between tokens",
        "right: taught",
        "right: read",
        "divergence, nats a token",
        "accepted",
        "likeliest tokens: tuned",
        "served",
    )
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    lines += [
        f"| {row['precision']} | {row['bytes'] / 1e6:,.0f} MB | {1000 * row['latency']:.1f} ms "
        f"| {row['taught']:.1%} | {row['read']:.1%} | {_probe(row['probe'])} |"
        for row in rows
    ]
    return lines


def _probe(found: dict[str, float]) -> str:
    shares = f"{found['trained_accuracy']:.1%} | {found['served_accuracy']:.1%}"
    return f"{found['divergence']:.4f} | {found['bound']} | {shares}"
