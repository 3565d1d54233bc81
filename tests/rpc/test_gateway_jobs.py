"""Fine-tuning jobs through the official SDK."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from google.rpc import code_pb2, status_pb2
from luthier.trainer.v1 import training_job_pb2, training_job_service_pb2
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_common.rpc.status import to_status

from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Job = training_job_pb2.TrainingJob
Create = training_job_service_pb2.CreateTrainingJobRequest
BASE = "luthier-starter"


def given(owners: Owners) -> dict[str, Any]:
    """Return the hyperparameters that reached the trainer; absent ones are `auto`."""
    job = owners.last(Create).training_job
    return {field.name: value for field, value in job.supervised.hyperparameters.ListFields()}


async def test_a_job_is_created_with_everything_left_to_auto(sdk: Sdk, owners: Owners) -> None:
    job = await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows"))
    request = owners.last(Create)
    assert request.parent == "projects/default"
    assert request.training_job.base_model == "projects/library/baseModels/luthier-starter"
    assert request.training_job.training_file == "projects/default/files/file-rows"
    assert request.training_job.HasField("supervised")
    assert given(owners) == {}
    assert job.id.startswith("ftjob-")
    assert job.object == "fine_tuning.job"
    assert job.model == BASE
    assert job.training_file == "file-rows"
    assert job.validation_file is None
    assert job.organization_id == "default"
    assert job.status == "validating_files"
    assert job.seed == 42
    assert job.created_at > 0
    assert (job.finished_at, job.fine_tuned_model, job.trained_tokens) == (None, None, None)
    assert job.error is None
    assert job.result_files == []
    assert job.hyperparameters.n_epochs == "auto"
    assert job.hyperparameters.batch_size == "auto"
    assert job.hyperparameters.learning_rate_multiplier == "auto"


async def test_everything_a_caller_fixes_reaches_the_trainer(sdk: Sdk, owners: Owners) -> None:
    job = await sdk(
        lambda c: c.fine_tuning.jobs.create(
            model=BASE,
            training_file="file-rows",
            validation_file="file-checks",
            suffix="support desk",
            seed=7,
            metadata={"team": "north"},
            method={
                "type": "supervised",
                "supervised": {
                    "hyperparameters": {
                        "n_epochs": 3,
                        "batch_size": "auto",
                        "learning_rate_multiplier": 0.5,
                    }
                },
            },
        )
    )
    sent = owners.last(Create).training_job
    assert sent.validation_file == "projects/default/files/file-checks"
    assert (sent.suffix, sent.seed, dict(sent.metadata)) == ("support desk", 7, {"team": "north"})
    assert given(owners) == {"epoch_count": 3, "learning_rate_multiplier": 0.5}
    assert (job.seed, job.metadata, job.validation_file) == (7, {"team": "north"}, "file-checks")
    assert job.method.type == "supervised"
    shown = job.method.supervised.hyperparameters
    assert (shown.n_epochs, shown.batch_size, shown.learning_rate_multiplier) == (3, "auto", 0.5)


async def test_hyperparameters_of_our_own_travel_in_the_same_place(
    sdk: Sdk, owners: Owners
) -> None:
    own = {"lora_rank": 16, "lora_alpha": 32, "retain_share": 0.25}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": own}}
    await sdk(
        lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows", method=method)
    )
    assert given(owners) == own


async def test_the_older_place_of_hyperparameters_is_understood(sdk: Sdk, owners: Owners) -> None:
    job = await sdk(
        lambda c: c.fine_tuning.jobs.create(
            model=BASE,
            training_file="file-rows",
            hyperparameters={"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": "auto"},
        )
    )
    assert given(owners) == {"epoch_count": 2, "batch_size": 4}
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, 4)


async def test_a_model_of_the_project_hides_the_librarys_of_that_name(
    sdk: Sdk, owners: Owners
) -> None:
    own = owners.add_model(BASE, project="default")
    await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows"))
    assert owners.last(Create).training_job.base_model == own.name


@pytest.mark.parametrize("kind", ["dpo", "reinforcement"])
async def test_a_method_that_is_not_offered_is_refused(sdk: Sdk, owners: Owners, kind: str) -> None:
    method: Any = {"type": kind}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", method=method))
    assert (caught.value.param, caught.value.code) == ("method.type", "unsupported_method")
    assert kind in caught.value.message


async def test_an_integration_is_refused_rather_than_forgotten(sdk: Sdk) -> None:
    wanted: Any = [{"type": "wandb", "wandb": {"project": "p"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(
            lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", integrations=wanted)
        )
    assert caught.value.param == "integrations"


async def test_tuning_a_tuned_model_is_refused_in_so_many_words(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(
            lambda c: c.fine_tuning.jobs.create(
                model=f"ft:{BASE}:default:support:ad-1", training_file="f"
            )
        )
    assert (caught.value.param, caught.value.code) == ("model", "unsupported_model")


async def test_an_unknown_base_model_is_a_bad_request(sdk: Sdk, owners: Owners) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model="gpt-4o", training_file="f"))
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    assert not owners.jobs


async def test_what_the_trainer_refuses_is_told_in_openais_words(sdk: Sdk, owners: Owners) -> None:
    field = "training_job.supervised.hyperparameters.epoch_count"
    owners.failures[Create] = InvalidArgument(
        "epoch_count must be 1 to 1000, not 0", reason="HYPERPARAMETER_OUT_OF_RANGE", field=field
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows"))
    assert caught.value.param == "method.supervised.hyperparameters.n_epochs"
    assert caught.value.code == "hyperparameter_out_of_range"
    assert "n_epochs must be 1 to 1000" in caught.value.message
    assert "epoch_count" not in caught.value.message


async def test_jobs_are_paged_newest_first(sdk: Sdk, owners: Owners) -> None:
    for number in range(5):
        owners.add_job(f"ftjob-{number}")
    page = await sdk(lambda c: c.fine_tuning.jobs.list(limit=3))
    assert [job.id for job in page.data] == ["ftjob-4", "ftjob-3", "ftjob-2"]
    assert page.has_more is True
    jobs = await sdk.all(lambda c: c.fine_tuning.jobs.list(limit=2))
    assert [job.id for job in jobs] == [f"ftjob-{number}" for number in (4, 3, 2, 1, 0)]
    last = await sdk(lambda c: c.fine_tuning.jobs.list(after="ftjob-1", limit=1))
    assert [job.id for job in last.data] == ["ftjob-0"]
    assert last.has_more is False


async def test_a_page_of_jobs_has_twenty_unless_told(sdk: Sdk, owners: Owners) -> None:
    for number in range(21):
        owners.add_job(f"ftjob-{number}")
    page = await sdk(lambda c: c.fine_tuning.jobs.list())
    assert len(page.data) == 20
    assert page.has_more is True


async def test_jobs_are_filtered_by_metadata_across_pages(sdk: Sdk, owners: Owners) -> None:
    for number in range(12):
        team = "north" if number % 4 == 0 else "south"
        owners.add_job(f"ftjob-{number}", metadata={"team": team, "number": str(number)})
    owners.add_job("ftjob-plain")
    wanted = {"team": "north"}
    page = await sdk(lambda c: c.fine_tuning.jobs.list(metadata=wanted, limit=2))
    assert [job.id for job in page.data] == ["ftjob-8", "ftjob-4"]
    assert page.has_more is True
    both = {"team": "south", "number": "5"}
    jobs = await sdk.all(lambda c: c.fine_tuning.jobs.list(metadata=both))
    assert [job.id for job in jobs] == ["ftjob-5"]


async def test_metadata_null_wants_jobs_without_any(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    owners.add_job("ftjob-tagged", metadata={"team": "north"})
    owners.add_job("ftjob-plain")
    listed = (await http.get("/fine_tuning/jobs", params={"metadata": "null"})).json()
    assert [job["id"] for job in listed["data"]] == ["ftjob-plain"]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Job.VALIDATING, "validating_files"),
        (Job.QUEUED, "queued"),
        (Job.RUNNING, "running"),
        (Job.CANCELLING, "running"),
        (Job.SUCCEEDED, "succeeded"),
        (Job.FAILED, "failed"),
        (Job.CANCELLED, "cancelled"),
    ],
)
async def test_every_state_has_a_status_of_openais(
    sdk: Sdk, owners: Owners, state: training_job_pb2.TrainingJob.State, status: str
) -> None:
    owners.add_job("ftjob-a", state=state)
    assert (await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-a"))).status == status


async def test_a_job_that_succeeded_names_its_model_and_checkpoint(
    sdk: Sdk, owners: Owners
) -> None:
    job = owners.add_job(
        "ftjob-done",
        state=Job.SUCCEEDED,
        suffix="support",
        adapter="projects/default/adapters/ad-1",
        result_files=["projects/default/files/file-figures"],
        progress=training_job_pb2.TrainingProgress(step=40, total_steps=40, loss=0.5),
        result=training_job_pb2.TrainingResult(
            trained_tokens=1234, metrics={"train_loss": 0.25, "valid_loss": 0.75}
        ),
    )
    job.end_time.seconds = 1_800_000_000
    job.resolved_hyperparameters.epoch_count = 3
    job.resolved_hyperparameters.learning_rate_multiplier = 1.0
    shown = await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-done"))
    assert shown.fine_tuned_model == "ft:luthier-starter:default:support:ad-1"
    assert shown.finished_at == 1_800_000_000
    assert shown.trained_tokens == 1234
    assert shown.result_files == ["file-figures"]
    assert shown.hyperparameters.n_epochs == 3
    checkpoints = await sdk.all(lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-done"))
    (checkpoint,) = checkpoints
    assert checkpoint.id == "ftckpt-done"
    assert checkpoint.object == "fine_tuning.job.checkpoint"
    assert checkpoint.fine_tuning_job_id == "ftjob-done"
    assert checkpoint.fine_tuned_model_checkpoint == shown.fine_tuned_model
    assert checkpoint.step_number == 40
    assert checkpoint.metrics.step == 40
    assert checkpoint.metrics.train_loss == 0.25
    assert checkpoint.metrics.valid_loss == 0.75


async def test_a_job_under_way_has_no_checkpoints(sdk: Sdk, owners: Owners) -> None:
    owners.add_job("ftjob-a", state=Job.RUNNING)
    page = await sdk(lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-a"))
    assert (page.data, page.has_more) == ([], False)


async def test_a_failed_job_says_why(sdk: Sdk, owners: Owners) -> None:
    reason = InvalidArgument(
        "projects/default/files/file-rows: line 3: is not valid JSON",
        reason="INVALID_ROW",
        field="training_job.training_file",
    )
    owners.add_job("ftjob-bad", state=Job.FAILED, error=to_status(reason))
    job = await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-bad"))
    assert job.error.code == "invalid_row"
    assert job.error.param == "training_file"
    assert job.error.message == "file-rows: line 3: is not valid JSON"
    assert job.fine_tuned_model is None


async def test_a_failure_without_details_is_still_told(sdk: Sdk, owners: Owners) -> None:
    error = status_pb2.Status(code=code_pb2.INTERNAL, message="internal error")
    owners.add_job("ftjob-bad", state=Job.FAILED, error=error)
    job = await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-bad"))
    assert (job.error.code, job.error.message) == ("internal", "internal error")


async def test_cancelling_sends_no_body_and_returns_the_job(sdk: Sdk, owners: Owners) -> None:
    owners.add_job("ftjob-a", state=Job.RUNNING)
    job = await sdk(lambda c: c.fine_tuning.jobs.cancel("ftjob-a"))
    assert (job.id, job.status) == ("ftjob-a", "running")
    assert owners.jobs["projects/default/trainingJobs/ftjob-a"].state == Job.CANCELLING


async def test_cancelling_an_ended_job_is_a_conflict_that_is_not_retried(
    sdk: Sdk, owners: Owners
) -> None:
    owners.add_job("ftjob-a", state=Job.SUCCEEDED)
    owners.failures[training_job_service_pb2.CancelTrainingJobRequest] = FailedPrecondition(
        "projects/default/trainingJobs/ftjob-a has ended", reason="JOB_ENDED"
    )
    with pytest.raises(openai.ConflictError) as caught:
        await sdk(lambda c: c.with_options(max_retries=2).fine_tuning.jobs.cancel("ftjob-a"))
    assert caught.value.code == "job_ended"
    assert "ftjob-a has ended" in caught.value.message
    assert "projects/" not in caught.value.message
    asked = [
        request
        for request in owners.requests
        if isinstance(request, training_job_service_pb2.CancelTrainingJobRequest)
    ]
    assert len(asked) == 1


async def test_events_come_newest_first_in_pages(sdk: Sdk, owners: Owners) -> None:
    job = owners.add_job("ftjob-a")
    levels = training_job_pb2.TrainingJobEvent
    owners.add_event(job.name, 1, level=levels.INFO, message="The rows are valid")
    owners.add_event(job.name, 2, level=levels.WARN, message="A run was lost")
    progress = training_job_pb2.TrainingProgress(
        step=5, total_steps=10, loss=0.5, token_accuracy=0.25, gradient_norm=float("nan")
    )
    owners.add_event(job.name, 3, level=levels.INFO, message="Step 5", metrics=progress)
    events = await sdk.all(lambda c: c.fine_tuning.jobs.list_events("ftjob-a", limit=1))
    assert [event.id for event in events] == ["ftevent-a-3", "ftevent-a-2", "ftevent-a-1"]
    assert [event.level for event in events] == ["info", "warn", "info"]
    assert [event.type for event in events] == ["metrics", "message", "message"]
    assert events[1].message == "A run was lost"
    assert events[0].object == "fine_tuning.job.event"
    assert events[0].data["step"] == 5
    assert events[0].data["train_loss"] == 0.5
    assert events[0].data["gradient_norm"] is None  # JSON has no NaN


async def test_an_event_of_another_job_is_no_place_to_go_on_from(sdk: Sdk, owners: Owners) -> None:
    owners.add_event(owners.add_job("ftjob-b").name, 1)
    owners.add_job("ftjob-a")
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.list_events("ftjob-a", after="ftevent-b-1"))
    assert caught.value.param == "after"


async def test_an_absent_job_is_not_found_wherever_it_is_named(sdk: Sdk) -> None:
    works: list[Any] = [
        lambda c: c.fine_tuning.jobs.retrieve("ftjob-none"),
        lambda c: c.fine_tuning.jobs.cancel("ftjob-none"),
        lambda c: c.fine_tuning.jobs.list_events("ftjob-none"),
        lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-none"),
    ]
    for work in works:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk(work)
        assert caught.value.code == "fine_tuning_job_not_found"
        assert "No such fine-tuning job: ftjob-none" in caught.value.message
