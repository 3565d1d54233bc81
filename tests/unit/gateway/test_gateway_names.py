import pytest
from luthier.inference.v1 import adapter_pb2, base_model_pb2
from luthier.trainer.v1 import training_job_pb2
from luthier_common.errors import InvalidArgument, NotFound, not_found
from luthier_gateway.openai import names
from luthier_gateway.openai.names import model_names

JOB = "projects/acme/trainingJobs/ftjob-abc"


def test_an_id_becomes_a_name_of_the_callers_project() -> None:
    assert names.resource("acme", names.FILES, "file-1") == "projects/acme/files/file-1"


@pytest.mark.parametrize(
    "public_id", ["", "a/b", "../file-1", "File-1", "file_1", "-a", "a-", "x" * 64, "ü", "a b"]
)
def test_an_id_that_cannot_exist_is_absent(public_id: str) -> None:
    with pytest.raises(NotFound) as caught:
        names.resource("acme", names.FILES, public_id)
    assert names.absent(caught.value) == (f"No such file: {public_id}", "file_not_found")


def test_a_cursor_is_a_name_or_nothing() -> None:
    assert names.cursor("acme", names.JOBS, "ftjob-abc") == JOB
    assert names.cursor("acme", names.JOBS, None) == ""
    assert names.cursor("acme", names.JOBS, "") == ""


def test_the_id_of_an_event_leads_back_to_it() -> None:
    name = f"{JOB}/events/17"
    assert names.event_id(name) == "ftevent-abc-17"
    assert names.event_cursor(JOB, "ftevent-abc-17") == name
    assert names.event_cursor(JOB, None) == ""


@pytest.mark.parametrize(
    "public_id",
    ["ftevent-other-17", "ftevent-abc-", "ftevent-abc-x", "ftevent-abc-1/2", "ftevent-abc-²", "17"],
)
def test_what_is_no_event_of_the_job_is_refused(public_id: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        names.event_cursor(JOB, public_id)
    assert caught.value.field == "after"


def test_a_job_without_the_usual_prefix_has_events_and_a_checkpoint_too() -> None:
    job = "projects/acme/trainingJobs/mine"
    assert names.event_cursor(job, names.event_id(f"{job}/events/1")) == f"{job}/events/1"
    assert names.checkpoint_id(job) == "ftckpt-mine"
    assert names.checkpoint_id(JOB) == "ftckpt-abc"


@pytest.mark.parametrize("suffix", ["support", "", "a:b:c", "ft:x", "größe & co"])
def test_the_name_of_an_adapter_leads_back_to_it(suffix: str) -> None:
    adapter = adapter_pb2.Adapter(
        name="projects/acme/adapters/ad-1",
        base_model="projects/library/baseModels/starter",
        suffix=suffix,
    )
    public = names.model_of_adapter(adapter)
    assert public == f"ft:starter:acme:{suffix}:ad-1"
    assert model_names("acme", public) == (adapter.name, "projects/acme/baseModels/ad-1")


def test_a_base_model_that_tuning_made_is_named_like_an_adapter() -> None:
    base = base_model_pb2.BaseModel(name="projects/acme/baseModels/b-1")
    assert names.model_of_base(base) == "b-1"
    base.tuning_origin.base_model = "projects/library/baseModels/starter"
    base.tuning_origin.suffix = "a:b"
    assert names.model_of_base(base) == "ft:starter:acme:a:b:b-1"
    assert base.name in model_names("acme", names.model_of_base(base))


def test_a_base_model_is_looked_for_in_the_project_and_then_in_the_library() -> None:
    assert model_names("acme", "starter") == (
        "projects/acme/baseModels/starter",
        "projects/library/baseModels/starter",
    )


@pytest.mark.parametrize(
    "model",
    [
        "",
        "meta/llama",
        "GPT-4",
        "ft:",
        "ft:starter:acme:ad-1",
        "ft:starter:rivals:support:ad-1",
        "ft:starter:acme:support:",
        "ft:starter:acme:support:../ad-1",
    ],
)
def test_a_name_that_cannot_be_one_of_the_project_is_looked_for_nowhere(model: str) -> None:
    assert model_names("acme", model) == ()


def test_a_job_names_its_model_once_it_is_published() -> None:
    job = training_job_pb2.TrainingJob(
        name=JOB, base_model="projects/library/baseModels/starter", suffix="s"
    )
    assert names.model_of_job(job) is None
    job.adapter = "projects/acme/adapters/ad-1"
    assert names.model_of_job(job) == "ft:starter:acme:s:ad-1"
    job.adapter, job.tuned_base_model = "", "projects/acme/baseModels/b-1"
    assert names.model_of_job(job) == "ft:starter:acme:s:b-1"


@pytest.mark.parametrize(
    ("name", "message", "code"),
    [
        (JOB, "No such fine-tuning job: ftjob-abc", "fine_tuning_job_not_found"),
        ("projects/acme/datasets/d-1", "No such dataset: d-1", "dataset_not_found"),
        ("projects/acme/adapters/ad-1", "No such model: ad-1", "model_not_found"),
        ("projects/acme/baseModels/b-1", "No such model: b-1", "model_not_found"),
        ("projects/acme/widgets/w-1", "w-1 was not found", "resource_not_found"),
        ("projects/acme", "projects/acme was not found", "resource_not_found"),
    ],
)
def test_absence_is_told_in_openais_words(name: str, message: str, code: str) -> None:
    assert names.absent(not_found(name)) == (message, code)


def test_a_message_shows_ids_instead_of_names() -> None:
    text = "projects/acme/files/file-1 and projects/library/baseModels/starter differ"
    assert names.public_text(text) == "file-1 and starter differ"
