"""What callers see of training jobs, on real NATS; the dataset service is scripted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import CreateAdapterRequest, DeleteAdapterRequest
from luthier.inference.v1.base_model_pb2 import BaseModel, TuningOrigin
from luthier.trainer.v1 import training_job_service_pb2 as api
from luthier.trainer.v1.events_pb2 import TrainingJobChanged
from luthier.trainer.v1.training_job_pb2 import PublicationGate, TrainingJob
from luthier.trainer.v1.tuning_pb2 import (
    Hyperparameters,
    PreferenceTuningSpec,
    SupervisedTuningSpec,
    TuningMode,
)
from luthier_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlatformError,
)
from luthier_common.events.subscribe import Event, Subscription
from luthier_common.nats_client import open_nats
from luthier_trainer.pinning import pin

from tests.support.eventually import eventually
from tests.support.grpc_server import caller
from tests.support.peft_methods import save_method
from tests.support.tiny_model import save_adapter, save_base
from tests.support.trainer_house import ACME, ROWS, House, open_house


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, snapshot: Path) -> Path:
    folder = save_adapter(tmp_path_factory.mktemp("adapter"), snapshot, seed=1)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


@pytest.fixture
async def house(tmp_path: Path, snapshot: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, snapshot) as opened:
        yield opened


async def test_a_created_job_is_validated_and_told_what_auto_chose(house: House) -> None:
    created = await house.create(house.draft(suffix="support", metadata={"team": "care"}, seed=7))
    assert created.state == TrainingJob.VALIDATING
    assert created.name.startswith(f"{ACME}/trainingJobs/ftjob-")
    assert created.training_file_sha256 == house.rows.sha256
    assert created.base_model_digest == house.base.digest
    job = await house.trainer.until(created.name, TrainingJob.RUNNING)
    chosen = job.resolved_hyperparameters
    assert chosen.epoch_count >= 1
    assert chosen.retain_share == 0  # this base model ships no general rows
    assert len(chosen.reasons) == 6
    assert (job.suffix, job.seed, dict(job.metadata)) == ("support", 7, {"team": "care"})
    assert await house.trainer.messages(job.name) == [
        f"Created fine-tuning job: {job.name.rpartition('/')[2]}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
    ]


async def test_given_hyperparameters_are_kept_and_not_explained(house: House) -> None:
    given = Hyperparameters(epoch_count=4, lora_rank=2, learning_rate_multiplier=0.5)
    job = await house.create(house.draft(supervised=SupervisedTuningSpec(hyperparameters=given)))
    job = await house.trainer.until(job.name, TrainingJob.RUNNING)
    chosen = job.resolved_hyperparameters
    assert (chosen.epoch_count, chosen.lora_rank, chosen.lora_alpha) == (4, 2, 4)
    assert chosen.learning_rate_multiplier == 0.5
    assert not [reason for reason in chosen.reasons if "epochs" in reason]


async def test_a_job_without_a_seed_gets_one_and_keeps_it(house: House) -> None:
    job = await house.create()
    assert job.HasField("seed")
    assert (await house.trainer.get(job.name)).seed == job.seed


BAD: dict[str, tuple[Callable[[House], TrainingJob], type[PlatformError], str | None]] = {
    "no such base model": (
        lambda h: h.draft(base_model="projects/library/baseModels/absent"),
        NotFound,
        None,
    ),
    "a base model of another project": (
        lambda h: h.draft(base_model="projects/other/baseModels/tiny"),
        NotFound,
        None,
    ),
    "a base model that is no name": (
        lambda h: h.draft(base_model="tiny"),
        InvalidArgument,
        "training_job.base_model",
    ),
    "no such file": (
        lambda h: h.draft(training_file=f"{ACME}/files/absent"),
        NotFound,
        None,
    ),
    "no file": (
        lambda h: h.draft(training_file=""),
        InvalidArgument,
        "training_job.training_file",
    ),
    "a file of another project": (
        lambda h: h.draft(training_file=h.rows.name.replace("acme", "other")),
        NotFound,
        None,
    ),
    "no method": (
        lambda h: h.draft(supervised=None),
        InvalidArgument,
        "training_job.supervised",
    ),
    "a long suffix": (
        lambda h: h.draft(suffix="x" * 65),
        InvalidArgument,
        "training_job.suffix",
    ),
    "too much metadata": (
        lambda h: h.draft(metadata={f"key{n}": "v" for n in range(17)}),
        InvalidArgument,
        "training_job.metadata",
    ),
    "a long value": (
        lambda h: h.draft(metadata={"key": "v" * 513}),
        InvalidArgument,
        "training_job.metadata",
    ),
    "a high priority": (
        lambda h: h.draft(priority=101),
        InvalidArgument,
        "training_job.priority",
    ),
    "a beta of nothing": (
        lambda h: h.draft(supervised=None, preference=PreferenceTuningSpec(beta=0)),
        InvalidArgument,
        "training_job.preference.beta",
    ),
    "a gate that asks for nothing": (
        lambda h: h.draft(gate=PublicationGate(metric="train_loss")),
        InvalidArgument,
        "training_job.gate",
    ),
    "a regression file of another project": (
        lambda h: h.draft(regression_file=h.rows.name.replace("acme", "other")),
        NotFound,
        None,
    ),
    "a rank of nothing": (
        lambda h: h.draft(
            supervised=SupervisedTuningSpec(hyperparameters=Hyperparameters(lora_rank=0))
        ),
        InvalidArgument,
        "training_job.supervised.hyperparameters.lora_rank",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_job_is_refused_and_not_stored(house: House, case: str) -> None:
    draft, kind, field = BAD[case]
    with pytest.raises(kind) as caught:
        await house.create(draft(house))
    assert caught.value.field == field
    listed = await house.trainer.jobs().ListTrainingJobs(api.ListTrainingJobsRequest(parent=ACME))
    assert not listed.training_jobs


async def test_a_file_for_something_else_is_refused_by_name(house: House) -> None:
    notes = await house.dataset.add(b"# Notes\n", "notes.md", purpose=File.Purpose.USER_DATA)
    with pytest.raises(InvalidArgument, match="not uploaded for tuning") as caught:
        await house.create(house.draft(training_file=notes.name))
    assert caught.value.field == "training_job.training_file"
    with pytest.raises(InvalidArgument) as caught:
        await house.create(house.draft(validation_file=notes.name))
    assert caught.value.field == "training_job.validation_file"


async def test_a_retain_share_without_general_rows_fails_the_job_with_its_field(
    house: House,
) -> None:
    given = SupervisedTuningSpec(hyperparameters=Hyperparameters(retain_share=0.5))
    job = await house.create(house.draft(supervised=given))
    failed = await house.trainer.until(job.name, TrainingJob.FAILED)
    assert "no general rows" in failed.error.message
    assert failed.HasField("end_time")
    assert any("no general rows" in text for text in await house.trainer.messages(job.name))


async def test_the_same_request_again_is_the_same_job(house: House) -> None:
    first = await house.create(request_id="once")
    again = await house.create(request_id="once")
    assert again.name == first.name
    with pytest.raises(InvalidArgument) as caught:
        await house.create(house.draft(suffix="other"), request_id="once")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_chosen_id_is_taken_once(house: House) -> None:
    job = await house.create(training_job_id="mine")
    assert job.name == f"{ACME}/trainingJobs/mine"
    with pytest.raises(AlreadyExists):
        await house.create(training_job_id="mine")


async def test_validate_only_tells_everything_and_stores_nothing(house: House) -> None:
    job = await house.create(validate_only=True)
    assert job.preflight.trainable_parameters > 0
    assert job.resolved_hyperparameters.epoch_count >= 1
    assert job.base_model_digest == house.base.digest
    with pytest.raises(NotFound):
        await house.trainer.get(job.name)


async def test_validate_only_says_what_would_fail_the_job(house: House) -> None:
    given = SupervisedTuningSpec(hyperparameters=Hyperparameters(retain_share=0.5))
    with pytest.raises(InvalidArgument, match="no general rows"):
        await house.create(house.draft(supervised=given), validate_only=True)


async def test_a_queued_job_tells_what_it_will_need(house: House) -> None:
    job = await house.create()
    job = await house.trainer.until(job.name, TrainingJob.RUNNING)
    assert job.preflight.trainable_parameters > 0


async def published(house: House, folder: Path) -> Adapter:
    """Return an adapter that acme has published."""
    request = CreateAdapterRequest(
        parent=ACME, adapter=await house.inference.adapter(folder, house.base), adapter_id="mine"
    )
    created: Adapter = await house.inference.adapters().CreateAdapter(request)
    return created


async def test_a_job_of_preferences_pins_what_it_names(house: House, adapter: Path) -> None:
    start = await published(house, adapter)
    notes = await house.dataset.add(ROWS, "regression.jsonl")
    draft = house.draft(
        supervised=None,
        preference=PreferenceTuningSpec(beta=0.3),
        start_adapter=start.name,
        regression_file=notes.name,
        priority=7,
        gate=PublicationGate(metric="train_loss", threshold=1.5),
    )
    job = await house.create(draft, request_id="once")
    assert job.preference.beta == 0.3
    assert not job.HasField("supervised")
    assert (job.start_adapter, job.start_adapter_digest) == (start.name, start.digest)
    assert (job.regression_file, job.regression_file_sha256) == (notes.name, notes.sha256)
    assert (job.priority, job.gate.threshold) == (7, 1.5)
    assert (await house.create(draft, request_id="once")).name == job.name
    for other in ({"priority": 8}, {"start_adapter": ""}, {"gate": None}):
        changed = TrainingJob(**{f.name: v for f, v in draft.ListFields()} | other)
        with pytest.raises(InvalidArgument) as caught:
            await house.create(changed, request_id="once")
        assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_an_adapter_that_cannot_be_gone_on_from_is_refused(
    house: House, adapter: Path, tmp_path: Path
) -> None:
    start = await published(house, adapter)
    full = SupervisedTuningSpec(hyperparameters=Hyperparameters(tuning_mode=TuningMode.FULL))
    other = await house.inference.import_base(save_base(tmp_path / "other", seed=2), name="other")
    field = "training_job.start_adapter"
    for draft, kind in (
        (house.draft(start_adapter=start.name, supervised=full), InvalidArgument),
        (house.draft(start_adapter=start.name, base_model=other.name), InvalidArgument),
        (house.draft(start_adapter="mine"), InvalidArgument),
    ):
        with pytest.raises(kind) as caught:
            await house.create(draft)
        assert caught.value.field == field
    for name in (f"{ACME}/adapters/absent", start.name.replace("acme", "other")):
        with pytest.raises(NotFound):
            await house.create(house.draft(start_adapter=name))
    await house.inference.adapters().DeleteAdapter(DeleteAdapterRequest(name=start.name))
    with pytest.raises(PlatformError) as refused:
        await house.create(house.draft(start_adapter=start.name))
    assert isinstance(refused.value, FailedPrecondition | NotFound)


async def test_an_adapter_that_is_held_back_cannot_be_gone_on_from(
    house: House, adapter: Path
) -> None:
    held = await house.inference.adapter(adapter, house.base)
    held.hold_reason = "rougeL is 0.2; the gate asks for at least 0.3"
    request = CreateAdapterRequest(parent=ACME, adapter=held, adapter_id="held")
    name = (await house.inference.adapters().CreateAdapter(request)).name
    with pytest.raises(FailedPrecondition, match="rougeL is") as caught:
        await house.create(house.draft(start_adapter=name))
    assert caught.value.reason == "ADAPTER_HELD"


async def test_an_adapter_that_was_registered_by_hand_can_be_gone_on_from(
    house: House, adapter: Path
) -> None:
    made = await house.inference.adapter(adapter, house.base)
    made.ClearField("configuration")
    request = CreateAdapterRequest(parent=ACME, adapter=made, adapter_id="by-hand")
    name = (await house.inference.adapters().CreateAdapter(request)).name
    job = await house.create(house.draft(start_adapter=name), validate_only=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    resolved = job.resolved_hyperparameters
    assert (resolved.lora_rank, resolved.lora_alpha) == (config["r"], config["lora_alpha"])
    assert list(resolved.target_modules) == sorted(config["target_modules"])


@pytest.mark.parametrize(
    ("case", "method"), [("adalora", "ADALORA"), ("loha", "LOHA"), ("lokr", "LOKR")]
)
async def test_an_adapter_of_another_method_cannot_be_gone_on_from(
    house: House, snapshot: Path, tmp_path: Path, case: str, method: str
) -> None:
    """The registry takes it, and a run would read it as LoRA."""
    folder = save_method(snapshot, tmp_path / "tuned", case)
    (folder / "README.md").unlink(missing_ok=True)
    draft = house.draft(start_adapter=(await published(house, folder)).name)
    with pytest.raises(InvalidArgument, match=f"of {method}, and only LoRA") as caught:
        await house.create(draft, validate_only=True)
    assert (caught.value.reason, caught.value.field) == (
        "START_NOT_LORA",
        "training_job.start_adapter",
    )
    job = await house.create(draft)
    failed = await house.trainer.until(job.name, TrainingJob.FAILED)
    assert method in failed.error.message


@pytest.mark.parametrize("mode", [TuningMode.LORA, TuningMode.FULL])
async def test_a_model_that_is_held_back_cannot_be_tuned(house: House, mode: TuningMode) -> None:
    """It would be served under another name."""

    class Holding:
        async def base_model(self, parent: str, name: str) -> BaseModel:
            origin = TuningOrigin(hold_reason="rougeL is 0.2; the gate asks for at least 0.3")
            return BaseModel(name=name, tuning_origin=origin)

    draft = house.draft()
    draft.supervised.hyperparameters.tuning_mode = mode
    with pytest.raises(FailedPrecondition, match="rougeL is") as caught:
        await pin(cast(Any, Holding()), ACME, draft)
    assert (caught.value.reason, caught.value.field) == ("MODEL_HELD", "training_job.base_model")


FOREIGN: dict[str, Callable[[str], Message]] = {
    "GetTrainingJob": lambda name: api.GetTrainingJobRequest(name=name),
    "CancelTrainingJob": lambda name: api.CancelTrainingJobRequest(name=name),
    "PauseTrainingJob": lambda name: api.PauseTrainingJobRequest(name=name),
    "ResumeTrainingJob": lambda name: api.ResumeTrainingJobRequest(name=name),
    "ListTrainingJobEvents": lambda name: api.ListTrainingJobEventsRequest(parent=name),
}


@pytest.mark.parametrize("method", FOREIGN)
async def test_a_foreign_job_answers_as_an_absent_one(house: House, method: str) -> None:
    job = await house.create()
    stranger = house.trainer.jobs(caller("other"))
    answers = []
    for name in (job.name, job.name[:-1] + "0"):
        with pytest.raises(PlatformError) as caught:
            await getattr(stranger, method)(FOREIGN[method](name))
        error = caught.value
        answers.append((type(error), error.reason, error.message.replace(name, "NAME")))
    assert answers[0] == answers[1]
    assert answers[0][0] is NotFound


async def test_a_stranger_sees_no_jobs_in_a_foreign_list(house: House) -> None:
    await house.create()
    stranger = house.trainer.jobs(caller("other"))
    with pytest.raises(NotFound):
        await stranger.ListTrainingJobs(api.ListTrainingJobsRequest(parent=ACME))
    listed = await stranger.ListTrainingJobs(api.ListTrainingJobsRequest(parent="projects/other"))
    assert not listed.training_jobs


async def test_jobs_are_listed_newest_first_in_pages(house: House) -> None:
    names = [(await house.create()).name for _ in range(3)]
    jobs = house.trainer.jobs()
    page = await jobs.ListTrainingJobs(api.ListTrainingJobsRequest(parent=ACME, page_size=2))
    assert [job.name for job in page.training_jobs] == names[:0:-1]
    rest = await jobs.ListTrainingJobs(
        api.ListTrainingJobsRequest(parent=ACME, page_size=2, page_token=page.next_page_token)
    )
    assert [job.name for job in rest.training_jobs] == names[:1]
    assert not rest.next_page_token


async def test_a_waiting_job_is_cancelled_at_once_and_only_once(house: House) -> None:
    first = await house.create()
    await house.trainer.until(first.name, TrainingJob.RUNNING)  # in the one slot
    waiting = await house.create()
    await house.trainer.until(waiting.name, TrainingJob.QUEUED)
    request = api.CancelTrainingJobRequest(name=waiting.name)
    cancelled = await house.trainer.jobs().CancelTrainingJob(request)
    assert cancelled.state == TrainingJob.CANCELLED
    assert cancelled.HasField("end_time")
    with pytest.raises(FailedPrecondition, match="already cancelled"):
        await house.trainer.jobs().CancelTrainingJob(request)
    assert (await house.trainer.messages(waiting.name))[-1] == "The job was cancelled"


async def test_changes_are_announced_with_their_revision(house: House) -> None:
    heard: list[tuple[str, int]] = []

    async def handle(event: Event) -> None:
        message = event.parse(TrainingJobChanged)
        heard.append((message.name, message.revision))

    async with (
        open_nats(house.inference.nats_url, name="test") as nats,
        Subscription(nats.jetstream(), ["luthier.trainer.v1.trainingJobs.>"], handle),
    ):
        job = await house.create()
        await house.trainer.until(job.name, TrainingJob.RUNNING)
        etag = int((await house.trainer.get(job.name)).etag)
        await eventually(lambda: (job.name, etag) in heard)
