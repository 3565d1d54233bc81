import json
from typing import Any

import pytest
from luthier.trainer.v1 import training_job_pb2, tuning_pb2
from luthier_gateway.openai import job_views
from luthier_gateway.openai.job_views import to_checkpoints, to_event
from luthier_gateway.openai.names import model_names, resource

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


def to_job(one: training_job_pb2.TrainingJob) -> dict[str, Any]:
    return job_views.to_job(one, {})


def test_an_empty_job_is_shown_without_a_guess() -> None:
    shown = to_job(job())
    assert shown["status"] == "queued"
    assert shown["error"] is None
    assert shown["validation_file"] is None
    assert shown["finished_at"] is None
    assert shown["preflight"] is None
    assert shown["queue_position"] is None
    assert shown["progress"] is None
    given = shown["method"]["supervised"]["hyperparameters"]
    assert set(given.values()) == {"auto"}
    assert len(given) == len(tuning_pb2.Hyperparameters.DESCRIPTOR.fields)
    assert "n_epochs" in given


def test_every_state_has_a_status() -> None:
    states = [value for value in Job.State.values() if value]
    shown = [to_job(job(state=state))["status"] for state in states]
    openai = {"validating_files", "queued", "running", "succeeded", "failed", "cancelled"}
    assert set(shown) == openai | {"pausing", "paused"}
    assert len(shown) == 9


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
        metrics=Progress(
            step=1, loss=NAN, gradient_norm=INF, learning_rate=0.5, peak_memory_bytes=2**33
        ),
    )
    shown = to_event(event)
    json.dumps(shown, allow_nan=False)
    assert shown["data"]["train_loss"] is None
    assert shown["data"]["gradient_norm"] is None
    assert shown["data"]["learning_rate"] == 0.5
    assert shown["data"]["peak_memory_bytes"] == 2**33
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
    assert checkpoint["metrics"] == {"step": 7, "train_loss": 0.5}  # OpenAI's are numbers


def test_what_a_run_does_without_is_no_longer_auto() -> None:
    one = job()
    one.resolved_hyperparameters.tuning_mode = tuning_pb2.LORA
    one.resolved_hyperparameters.base_precision = tuning_pb2.NF4
    one.resolved_hyperparameters.target_modules.extend(["q_proj", "v_proj"])
    shown = to_job(one)["method"]["supervised"]["hyperparameters"]
    assert (shown["tuning_mode"], shown["base_precision"]) == ("lora", "nf4")
    assert shown["target_modules"] == ["q_proj", "v_proj"]
    assert (shown["packing"], shown["retain_share"], shown["lora_dropout"]) == (False, 0.0, 0.0)
    # The run's device decides on these.
    assert (shown["compute_precision"], shown["micro_batch_size"]) == ("auto", "auto")


def test_full_tuning_shows_nothing_of_lora() -> None:
    one = job()
    one.resolved_hyperparameters.tuning_mode = tuning_pb2.FULL
    shown = to_job(one)["method"]["supervised"]["hyperparameters"]
    assert shown["tuning_mode"] == "full"
    assert not [name for name in shown if "lora" in name or name == "target_modules"]


def test_dpo_shows_its_beta_as_given_and_as_used() -> None:
    one = job(preference=tuning_pb2.PreferenceTuningSpec())
    method = to_job(one)["method"]
    assert (set(method), method["type"]) == ({"type", "dpo"}, "dpo")
    assert method["dpo"]["hyperparameters"]["beta"] == "auto"
    one.preference.beta = 0.25
    assert to_job(one)["method"]["dpo"]["hyperparameters"]["beta"] == 0.25
    one.resolved_hyperparameters.beta = 0.5
    assert to_job(one)["method"]["dpo"]["hyperparameters"]["beta"] == 0.5


def test_a_preflight_says_no_as_plainly_as_yes() -> None:
    one = job()
    one.preflight.data.accepted_row_count = 5
    one.preflight.chosen.devices.add(device_class="small", memory_bytes=1)
    shown = to_job(one)["preflight"]
    assert shown["data"]["refused_row_count"] == 0
    (device,) = shown["chosen"]["devices"]
    assert device["fits"] is False
    assert "cost" not in device  # not known, which is not 0
    json.dumps(shown, allow_nan=False)


def test_snapshots_are_listed_newest_first_by_names_that_lead_back_to_them() -> None:
    one = job(state=Job.RUNNING, suffix="a:b")
    for step in (5, 10):
        snapshot = one.checkpoints.add(step=step, adapter=f"projects/acme/adapters/a12-s{step}")
        snapshot.metrics["valid_loss"] = 1 / step
        snapshot.metrics["perplexity"] = 2
        snapshot.create_time.seconds = 100 + step
    newest, oldest = to_checkpoints(one)
    assert newest["id"] == "ftckpt-1-10"
    assert newest["fine_tuned_model_checkpoint"] == "ft:starter:acme:a:b:a12:ckpt-step-10"
    # A judgement reads the whole validation file.
    assert newest["metrics"] == {"step": 10, "valid_loss": 0.1, "full_valid_loss": 0.1}
    assert (oldest["step_number"], oldest["created_at"]) == (5, 105)
    place = resource("acme", "adapters", "a12-s5")
    assert place in model_names("acme", oldest["fine_tuned_model_checkpoint"])
    one.state, one.adapter, one.result.best_step = Job.SUCCEEDED, "projects/acme/adapters/a12", 5
    assert [found["id"] for found in to_checkpoints(one)] == [
        "ftckpt-1",
        "ftckpt-1-10",
        "ftckpt-1-5",
    ]
    assert to_checkpoints(one)[0]["step_number"] == 5
