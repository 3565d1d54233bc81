"""The committed measurements of memory, and the page that quotes them."""

import json
from pathlib import Path
from typing import Any

from luthier_trainer.preflight.memory import CPU

from benchmarks.preflight.configurations import CONFIGURATIONS, Use
from benchmarks.preflight.page import TOLERANCE, error, filled, markdown

ROOT = Path(__file__).parents[3]
RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks/results/preflight.json").read_text())


def test_estimates_are_within_the_tolerance_of_what_was_measured() -> None:
    errors = {row["name"]: abs(error(row)) for row in RESULTS["rows"]}
    assert {name: found for name, found in errors.items() if found > TOLERANCE} == {}


def test_all_configurations_were_measured_and_most_were_never_fitted_on() -> None:
    measured = {row["name"]: row["use"] for row in RESULTS["rows"]}
    assert measured == {one.name: one.use for one in CONFIGURATIONS}
    uses = list(measured.values())
    assert len(uses) >= 12
    assert sum(use != Use.FITTED for use in uses) >= 6
    assert uses.count(Use.UNSEEN) >= 6


def test_the_constants_in_use_are_the_documented_ones() -> None:
    constants = RESULTS["constants"]
    assert (constants["fixed_bytes"], constants["heap_share"]) == (CPU.fixed_bytes, CPU.heap_share)


def test_page_and_table_quote_the_results() -> None:
    page = (ROOT / "docs/preflight.md").read_text(encoding="utf-8")
    assert filled(page, RESULTS) == page
    table = (ROOT / "benchmarks/results/preflight.md").read_text(encoding="utf-8")
    assert markdown(RESULTS) == table
