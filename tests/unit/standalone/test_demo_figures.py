"""How the demo counts, and what its report holds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from luthier_common.errors import FailedPrecondition
from luthier_standalone.demo.building import BuiltDataset, count_leaks
from luthier_standalone.demo.examples import load_examples
from luthier_standalone.demo.machine import machine_facts
from luthier_standalone.demo.report import Answer, Comparison, Report
from luthier_standalone.demo.scoring import Score, is_right, judge
from luthier_standalone.demo.tuning import LossPoint, Tuning, read_losses


@pytest.mark.parametrize("answer", ["24 days", " 24  Days.", "24-days!"])
def test_case_punctuation_and_spaces_do_not_count(answer: str) -> None:
    assert is_right(answer, "24 days")


@pytest.mark.parametrize("answer", ["", "25 days", "24 days off", "I do not know."])
def test_anything_else_counts(answer: str) -> None:
    assert not is_right(answer, "24 days")


def test_scores_are_means_over_the_questions() -> None:
    score = judge(["24 days", "the red door", "x"], ["24 days.", "the blue door", "y"])
    assert score.exact_match == pytest.approx(1 / 3)
    assert score.rouge_l == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_no_questions_are_no_examination() -> None:
    with pytest.raises(ValueError, match="questions"):
        judge([], [])


def row(question: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "x"}]
    return json.dumps({"messages": messages}) + "\n"


def test_a_leak_is_found_in_any_spelling_and_inside_other_text() -> None:
    rows = row("Tell me: WHO founded  Kresdor") + row("Who founded Kresdora?")
    assert count_leaks(rows, ["Who founded Kresdor?", "Who leads Kresdor?"]) == 1


def test_no_rows_are_no_proof() -> None:
    with pytest.raises(FailedPrecondition):
        count_leaks("", ["Who founded Kresdor?"])


def test_the_loss_curve_is_read_from_the_result_file() -> None:
    text = "step,train_loss,train_accuracy,valid_loss\n1,2.5,0.1,\n2,,,0.9\n3,1.25,0.4,\n"
    assert read_losses(text) == (LossPoint(1, 2.5), LossPoint(3, 1.25))
    with pytest.raises(FailedPrecondition):
        read_losses("step,train_loss\n")


def test_the_examinations_are_large_enough() -> None:
    examples = load_examples()
    assert len(examples.exam) >= 60
    assert len(examples.reworded) >= 60
    assert len(examples.reading) >= 300
    assert all(path.is_file() for path in examples.documents)


def report() -> Report:
    return Report(
        base_model="base",
        dataset=BuiltDataset("file-1", 10, 100, {"headings": 4, "questions": 6}, {}, 0),
        tuning=Tuning(
            "ftjob-1", "ft:base:default:demo:a", 3, 300, 50, 1000, 28, {"epochs": 2}, ("why",),
            (LossPoint(1, 2.0), LossPoint(3, 0.5)),
        ),
        exam=Comparison(2, Score(0.0, 0.1), Score(1.0, 1.0)),
        reworded=Comparison(1, Score(0.0, 0.1), Score(0.5, 0.6)),
        reading=Comparison(2, Score(0.8, 0.8), Score(0.75, 0.8)),
        answers=(Answer("What | is it?", "a", "b\nc", "a", True),),
        seconds={"start": 3.0, "tuning": 90.0},
        machine=machine_facts(),
    )  # fmt: skip


def test_the_report_holds_page_picture_and_every_figure(tmp_path: Path) -> None:
    report().write(tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| What \\| is it? | a | b c | a | ✓ |" in page
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["exam"]["tuned"]["exact_match"] == 1.0
    assert figures["trainable_share"] == 0.05
    assert figures["total_seconds"] == 93.0
    assert figures["reading_drop"] == pytest.approx(0.05)
    assert str(Path.home()) not in json.dumps(figures) + page


def unmet(changed: Report) -> list[str]:
    return [goal.name for goal in changed.asserted() if not goal.met]


def test_good_figures_meet_every_bound() -> None:
    assert unmet(report()) == []
    assert all(goal.met for goal in report().goals())


def test_each_bound_can_be_missed() -> None:
    good = report()
    knowing = replace(good.exam, base=Score(0.11, 0.2))
    weak = replace(good.exam, tuned=Score(0.79, 0.9))
    forgetful = replace(good.reading, tuned=Score(0.64, 0.7))
    assert unmet(replace(good, exam=knowing)) == ["exam, base model, exact match"]
    assert unmet(replace(good, exam=weak)) == ["exam, tuned model, exact match"]
    assert unmet(replace(good, reading=forgetful)) == ["reading comprehension lost"]
    big = replace(good.tuning, trainable_parameters=101)
    assert unmet(replace(good, tuning=big)) == ["trainable weights, share of the base"]
    leaky = replace(good.dataset, exam_questions_among_rows=1)
    assert unmet(replace(good, dataset=leaky)) == ["exam questions among the rows"]
    slow = replace(good, seconds={"tuning": 361.0})
    assert unmet(slow) == [], "a slow machine fails nothing"
    assert [goal.name for goal in slow.goals() if not goal.met] == ["time"]
