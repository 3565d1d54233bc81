"""The main job, as `make demo` runs it, with its figures asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.luthier_up import run_luthier

pytestmark = [pytest.mark.timeout(900), pytest.mark.full]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo-report"
    ran = run_luthier("demo", "--assert", "--out", str(folder), timeout=850)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (folder.parent / "printed.txt").write_text(ran.stdout, encoding="utf-8")
    return folder


def test_the_base_does_not_know_the_tuned_model_does_and_still_reads(out: Path) -> None:
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    exam, reading = report["exam"], report["reading"]
    assert exam["questions"] >= 60
    assert exam["base"]["exact_match"] <= 0.10
    assert exam["tuned"]["exact_match"] >= 0.80
    assert reading["questions"] >= 300
    assert reading["base"]["exact_match"] - reading["tuned"]["exact_match"] <= 0.15
    assert report["dataset"]["exam_questions_among_rows"] == 0
    tuning = report["tuning"]
    assert tuning["trainable_parameters"] / tuning["total_parameters"] <= 0.10
    assert tuning["quantized_layers"] == 28
    assert len(tuning["losses"]) == tuning["steps"]


def test_it_leaves_a_report_with_its_picture(out: Path) -> None:
    page = (out / "report.md").read_text(encoding="utf-8")
    assert "loss.png" in page
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_it_shows_rows_progress_and_the_table(out: Path) -> None:
    printed = (out.parent / "printed.txt").read_text(encoding="utf-8")
    for shown in ("3 rows", "28 linear layers in NF4", "the exam", "exact match", "ROUGE-L"):
        assert shown in printed
