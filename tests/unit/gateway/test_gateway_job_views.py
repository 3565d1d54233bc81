import json
from typing import Any

import pytest
from luthier.trainer.v1 import training_job_pb2
from luthier_gateway.openai.job_views import to_checkpoints, to_event, to_job

Job = training_job_pb2.TrainingJob
Progress = training_job_pb2.TrainingProgress
NAN, INF = float("nan"), float("inf")


def job(**values: Any) -> training_job_pb2.TrainingJob:
    given: dict[str, Any] = {
        "name": "projects/acme/trainingJobs/ftjob-1",
        "base_model": "projects/library/baseModels/starter",
        "training_file": "projects/acme/files/file-1",
    }
    return Job(**(given | values))


def test_an_empty_job_is_shown_without_a_guess() -> None:
    shown = to_job(job())
    assert shown["status"] == "queued"
    assert shown["error"] is None
    assert shown["validation_file"] is None
    assert shown["finished_at"] is None
    assert shown["method"]["supervised"]["hyperparameters"] == dict.fromkeys(
        (
            "n_epochs",
            "batch_size",
            "learning_rate_multiplier",
            "lora_rank",
            "lora_alpha",
            "retain_share",
        ),
        "auto",
    )


def test_every_state_has_a_status() -> None:
    states = [value for value in Job.State.values() if value]
    shown = [to_job(job(state=state))["status"] for state in states]
    known = {"validating_files", "queued", "running", "succeeded", "failed", "cancelled"}
    assert set(shown) == known
    assert len(shown) == 7


def test_what_is_known_of_hyperparameters_goes_before_what_was_asked() -> None:
    one = job()
    one.supervised.hyperparameters.epoch_count = 2
    assert to_job(one)["hyperparameters"]["n_epochs"] == 2
    one.resolved_hyperparameters.epoch_count = 3
    one.resolved_hyperparameters.batch_size = 8
    shown = to_job(one)["hyperparameters"]
    assert (shown["n_epochs"], shown["batch_size"]) == (3, 8)


@pytest.mark.parametrize("state", [Job.RUNNING, Job.FAILED, Job.CANCELLED])
def test_results_are_shown_of_a_success_only(state: training_job_pb2.TrainingJob.State) -> None:
    one = job(state=state, adapter="projects/acme/adapters/ad-1")
    one.result.trained_tokens = 5
    assert (to_job(one)["fine_tuned_model"], to_job(one)["trained_tokens"]) == (None, None)
    assert to_checkpoints(one) == []
    one.state = Job.SUCCEEDED
    assert to_job(one)["fine_tuned_model"] == "ft:starter:acme::ad-1"
    assert len(to_checkpoints(one)) == 1


@pytest.mark.parametrize(
    ("seconds", "finish"), [(90.5, 1090), (0.0, None), (-1.0, None), (NAN, None), (INF, None)]
)
def test_the_finish_is_estimated_where_that_makes_sense(seconds: float, finish: int | None) -> None:
    one = job(state=Job.RUNNING, progress=Progress(seconds_left=seconds))
    one.update_time.seconds = 1000
    assert to_job(one)["estimated_finish"] == finish
    one.state = Job.SUCCEEDED
    assert to_job(one)["estimated_finish"] is None


def test_figures_that_json_cannot_hold_are_null() -> None:
    event = training_job_pb2.TrainingJobEvent(
        name="projects/acme/trainingJobs/ftjob-1/events/2",
        metrics=Progress(step=1, loss=NAN, gradient_norm=INF, learning_rate=0.5),
    )
    shown = to_event(event)
    json.dumps(shown, allow_nan=False)
    assert shown["data"]["train_loss"] is None
    assert shown["data"]["gradient_norm"] is None
    assert shown["data"]["learning_rate"] == 0.5
    assert (shown["type"], shown["level"]) == ("metrics", "info")


def test_a_plain_event_has_no_figures() -> None:
    event = training_job_pb2.TrainingJobEvent(
        name="projects/acme/trainingJobs/ftjob-1/events/2",
        level=training_job_pb2.TrainingJobEvent.ERROR,
        message="lost",
    )
    shown = to_event(event)
    assert (shown["type"], shown["data"], shown["level"]) == ("message", {}, "error")


def test_a_checkpoint_shows_the_figures_that_there_are() -> None:
    one = job(state=Job.SUCCEEDED, adapter="projects/acme/adapters/ad-1")
    one.progress.step, one.progress.loss = 7, 0.5
    one.result.metrics["valid_loss"] = NAN
    one.result.metrics["rouge"] = 0.25
    (checkpoint,) = to_checkpoints(one)
    assert checkpoint["step_number"] == 7
    assert checkpoint["metrics"] == {"step": 7, "train_loss": 0.5, "valid_loss": None}
