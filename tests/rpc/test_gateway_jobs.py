"""Fine-tuning jobs through the official SDK: how they are listed, watched and steered."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from google.rpc import code_pb2, status_pb2
from luthier.trainer.v1 import training_job_pb2, training_job_service_pb2, tuning_pb2
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_common.rpc.status import to_status
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Job = training_job_pb2.TrainingJob
BASE = "luthier-starter"


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
        (Job.PAUSING, "pausing"),
        (Job.PAUSED, "paused"),
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


async def test_checkpoints_on_the_way_are_models_and_are_paged(sdk: Sdk, owners: Owners) -> None:
    job = owners.add_job("ftjob-a", state=Job.RUNNING, suffix="support")
    for step in (10, 20, 30):
        adapter = owners.add_adapter(f"a12-s{step}")
        job.checkpoints.add(step=step, adapter=adapter.name, metrics={"valid_loss": 1 / step})
    found = await sdk.all(lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-a", limit=2))
    assert [one.id for one in found] == ["ftckpt-a-30", "ftckpt-a-20", "ftckpt-a-10"]
    assert [one.step_number for one in found] == [30, 20, 10]
    assert found[0].metrics.valid_loss == 1 / 30
    model = await sdk(lambda c: c.models.retrieve(found[0].fine_tuned_model_checkpoint))
    assert model.id == f"ft:{BASE}:default:support:a12:ckpt-step-30"
    page = await sdk(lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-a", limit=2))
    assert page.has_more is True


async def test_a_checkpoint_of_another_job_is_no_place_to_go_on_from(
    sdk: Sdk, owners: Owners
) -> None:
    owners.add_job("ftjob-a")
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-a", after="ftckpt-b-1"))
    assert caught.value.param == "after"


async def test_a_waiting_job_says_where_it_stands(sdk: Sdk, owners: Owners) -> None:
    job = owners.add_job("ftjob-a", queue_position=3, priority=7)
    job.estimated_start_time.seconds = 1_800_000_000
    shown = await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-a"))
    assert (shown.queue_position, shown.estimated_start) == (3, 1_800_000_000)
    assert shown.priority == 7


async def test_a_job_whose_result_is_held_back_says_why(sdk: Sdk, owners: Owners) -> None:
    gate = training_job_pb2.PublicationGate(metric="rougeL", threshold=0.5)
    owners.add_job(
        "ftjob-a", state=Job.SUCCEEDED, gate=gate, gate_failure="rougeL is 0.4; at least 0.5"
    )
    shown = await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-a"))
    assert shown.gate == {"metric": "rougeL", "threshold": 0.5}
    assert shown.gate_failure == "rougeL is 0.4; at least 0.5"


async def test_what_auto_chose_is_told_with_its_reasons(sdk: Sdk, owners: Owners) -> None:
    job = owners.add_job("ftjob-a")
    job.resolved_hyperparameters.reasons.append("rank 8: it holds the data")
    shown = await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-a"))
    assert shown.auto_reasons == ["rank 8: it holds the data"]


async def test_a_job_is_the_sdks_job_in_every_field(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    # The SDK itself reads answers without checking them.
    checkpoint = training_job_pb2.TrainingCheckpoint(step=1, adapter="projects/default/adapters/a")
    for state in (Job.VALIDATING, Job.RUNNING, Job.SUCCEEDED):
        owners.add_job(f"ftjob-{state}", state=state, checkpoints=[checkpoint])
    preference = tuning_pb2.PreferenceTuningSpec(beta=0.5)
    owners.add_job("ftjob-dpo", preference=preference, state=Job.RUNNING)
    for job in (await http.get("/fine_tuning/jobs")).json()["data"]:
        FineTuningJob.model_validate(job, strict=True)
    page = (await http.get(f"/fine_tuning/jobs/ftjob-{Job.RUNNING}/checkpoints")).json()
    FineTuningJobCheckpoint.model_validate(page["data"][0], strict=True)


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


async def test_a_job_is_paused_and_resumed_without_a_body(sdk: Sdk, owners: Owners) -> None:
    owners.add_job("ftjob-a", state=Job.RUNNING)
    assert (await sdk(lambda c: c.fine_tuning.jobs.pause("ftjob-a"))).status == "pausing"
    owners.jobs["projects/default/trainingJobs/ftjob-a"].state = Job.PAUSED
    assert (await sdk(lambda c: c.fine_tuning.jobs.retrieve("ftjob-a"))).status == "paused"
    assert (await sdk(lambda c: c.fine_tuning.jobs.resume("ftjob-a"))).status == "queued"


async def test_a_pause_that_is_too_late_is_a_conflict_that_is_not_retried(
    sdk: Sdk, owners: Owners
) -> None:
    owners.add_job("ftjob-a", state=Job.SUCCEEDED)
    kinds = training_job_service_pb2.PauseTrainingJobRequest
    owners.failures[kinds] = FailedPrecondition(
        "projects/default/trainingJobs/ftjob-a has ended", reason="JOB_ENDED"
    )
    with pytest.raises(openai.ConflictError) as caught:
        await sdk(lambda c: c.with_options(max_retries=2).fine_tuning.jobs.pause("ftjob-a"))
    assert caught.value.code == "job_ended"
    assert len([one for one in owners.requests if isinstance(one, kinds)]) == 1


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
        lambda c: c.fine_tuning.jobs.pause("ftjob-none"),
        lambda c: c.fine_tuning.jobs.resume("ftjob-none"),
        lambda c: c.fine_tuning.jobs.list_events("ftjob-none"),
        lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-none"),
    ]
    for work in works:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk(work)
        assert caught.value.code == "fine_tuning_job_not_found"
        assert "No such fine-tuning job: ftjob-none" in caught.value.message
