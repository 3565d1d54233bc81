from typing import Any

import pytest
from luthier.trainer.v1.training_job_pb2 import PublicationGate, TrainingJob
from luthier_common.errors import InvalidArgument
from luthier_trainer.gates import check, failure

NAN, INF = float("nan"), float("inf")


def job(files: str = "", **gate: Any) -> TrainingJob:
    asked = TrainingJob(gate=PublicationGate(**gate))
    for file in files.split():
        setattr(asked, f"{file}_file", f"projects/acme/files/{file}")
    return asked


def test_a_job_without_a_gate_asks_for_nothing() -> None:
    check(TrainingJob())


@pytest.mark.parametrize(
    ("files", "gate"),
    [
        ("", {"metric": "train_loss", "threshold": 0.5}),
        ("validation", {"metric": "rougeL", "improvement": 0.05}),
        ("validation", {"metric": "valid_loss", "threshold": 0, "improvement": 1e-6}),
        ("regression", {"metric": "regression_perplexity", "threshold": 20}),
    ],
)
def test_a_gate_that_a_result_can_be_held_against_is_taken(
    files: str, gate: dict[str, Any]
) -> None:
    check(job(files, **gate))


@pytest.mark.parametrize(
    ("files", "gate", "field", "said"),
    [
        ("validation", {"metric": "rougel", "threshold": 1}, "metric", "rougeL"),
        ("validation", {"threshold": 1}, "metric", "one of"),
        ("", {"metric": "valid_loss", "threshold": 1}, "metric", "validation_file"),
        ("regression", {"metric": "rouge1", "threshold": 1}, "metric", "validation_file"),
        ("", {"metric": "exact_match", "threshold": 1}, "metric", "validation_file"),
        ("", {"metric": "perplexity", "threshold": 1}, "metric", "validation_file"),
        ("validation", {"metric": "regression_loss", "threshold": 1}, "metric", "regression_file"),
        ("validation", {"metric": "rougeL", "threshold": NAN}, "threshold", "number"),
        ("validation", {"metric": "rougeL", "improvement": INF}, "improvement", "number"),
        ("validation", {"metric": "rougeL", "improvement": 0}, "improvement", "above 0"),
        ("validation", {"metric": "rougeL", "improvement": -1}, "improvement", "above 0"),
        ("", {"metric": "train_loss", "improvement": 1}, "improvement", "threshold"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused_at_once(
    files: str, gate: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(job(files, **gate))
    assert caught.value.field == f"training_job.gate.{field}"
    assert caught.value.reason == "INVALID_GATE"
    assert said in caught.value.message


def test_rewards_are_figures_of_preference_tuning_alone() -> None:
    asked = job("validation", metric="valid_reward_accuracy", threshold=0.7)
    with pytest.raises(InvalidArgument, match="one of train_loss"):
        check(asked)
    asked.preference.SetInParent()
    check(asked)
    asked.validation_file = ""
    with pytest.raises(InvalidArgument, match="validation_file"):
        check(asked)


def test_a_gate_must_say_what_to_reach() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(job("validation", metric="rougeL"))
    assert caught.value.field == "training_job.gate"
    assert "threshold, improvement or both" in caught.value.message


@pytest.mark.parametrize(
    ("gate", "metrics", "passes"),
    [
        ({"metric": "rougeL", "threshold": 0.5}, {"rougeL": 0.5}, True),
        ({"metric": "rougeL", "threshold": 0.5}, {"rougeL": 0.4999}, False),
        ({"metric": "valid_loss", "threshold": 0.5}, {"valid_loss": 0.5}, True),
        ({"metric": "valid_loss", "threshold": 0.5}, {"valid_loss": 0.5001}, False),
        ({"metric": "perplexity", "threshold": 9}, {"perplexity": 8}, True),
        ({"metric": "regression_perplexity", "threshold": 9}, {"regression_perplexity": 10}, False),
        ({"metric": "exact_match", "improvement": 0.1}, {"exact_match": 0.3}, False),
        (
            {"metric": "exact_match", "improvement": 0.1},
            # 0.3 - 0.2 is a little less than 0.1 in floats
            {"exact_match": 0.3, "base_exact_match": 0.2},
            True,
        ),
        (
            {"metric": "exact_match", "improvement": 0.1},
            {"exact_match": 0.29, "base_exact_match": 0.2},
            False,
        ),
        (
            {"metric": "valid_loss", "improvement": 0.5},
            {"valid_loss": 1.5, "base_valid_loss": 2.0},
            True,
        ),
        (
            {"metric": "valid_loss", "improvement": 0.5},
            {"valid_loss": 2.5, "base_valid_loss": 2.0},
            False,
        ),
        (
            {"metric": "rougeL", "threshold": 0.5, "improvement": 0.1},
            {"rougeL": 0.45, "base_rougeL": 0.1},
            False,
        ),
    ],
)
def test_results_pass_or_fail(
    gate: dict[str, Any], metrics: dict[str, float], passes: bool
) -> None:
    assert (failure(PublicationGate(**gate), metrics) == "") is passes


@pytest.mark.parametrize("metrics", [{}, {"rougeL": NAN}, {"rougeL": INF}, {"rouge1": 1.0}])
def test_a_figure_that_was_not_measured_fails_and_is_named(metrics: dict[str, float]) -> None:
    said = failure(PublicationGate(metric="rougeL", threshold=0.1), metrics)
    assert said == "the gate asks for rougeL, which was not measured"


def test_a_failure_says_what_was_asked_and_what_was_reached() -> None:
    gate = PublicationGate(metric="rougeL", threshold=0.5)
    assert failure(gate, {"rougeL": 0.25}) == "rougeL is 0.25; the gate asks for at least 0.5"
    gate = PublicationGate(metric="valid_loss", improvement=0.5)
    said = failure(gate, {"valid_loss": 1.75, "base_valid_loss": 2.0})
    assert said == "valid_loss is 1.75 after 2; the gate asks for 0.5 better"
    said = failure(gate, {"valid_loss": 1.75, "base_valid_loss": NAN})
    assert "than before, which was not measured" in said
