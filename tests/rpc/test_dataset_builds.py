import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import docx
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    DeleteDatasetRequest,
    GetDatasetRequest,
    ListDatasetRowsRequest,
    ListDatasetsRequest,
)
from luthier.dataset.v1.events_pb2 import DatasetChanged, DatasetDeleted
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import DeleteFileRequest, GetFileRequest
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule
from luthier.dataset.v1.recipe_pb2 import HeadingsRecipe, QuestionsRecipe, Recipe
from luthier_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from luthier_common.events.subscribe import Event, Subscription
from luthier_common.nats_client import open_nats
from luthier_common.nats_process import NatsProcess

from tests.support.dataset_service import DatasetClient, DatasetServer, dataset_service, store
from tests.support.eventually import eventually
from tests.support.grpc_server import Serving, caller, serving
from tests.support.nats_server import nats_server
from tests.support.scripted_inference import (
    BASE_MODEL,
    DIGEST,
    ScriptedInference,
    import_base_model,
)

State = Dataset.State
HEADINGS = Recipe(headings=HeadingsRecipe())
QUESTIONS = Recipe(questions=QuestionsRecipe(questions_per_statement=2))
POLICY = b"# Policy\n\n## Refunds\n\nAcme refunds purchases within 52 days. Be kind.\n"


def answer(prompt: str) -> str:
    """Ask for the number of a statement; style 2 asks a question that gives its answer away."""
    number = next(word for word in prompt.split() if word.isdigit() and len(word) > 1)
    if prompt.startswith("Write question 2"):
        return f"Is it {number} days?"
    return f"How many days, {prompt.split()[4]}?" if prompt.startswith("Write") else number


def handbook() -> bytes:
    document = docx.Document()
    document.add_heading("Handbook", level=0)
    document.add_heading("Leave", level=1)
    document.add_paragraph("Everyone at Acme gets 24 days of leave.")
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def model(tmp_path: Path) -> ScriptedInference:
    return ScriptedInference(await import_base_model(store(tmp_path)), answer)


@pytest.fixture
async def inference(model: ScriptedInference) -> AsyncIterator[Serving]:
    async with serving(*model.services()) as running:
        yield running


@pytest.fixture
async def server(
    tmp_path: Path, nats: NatsProcess, inference: Serving
) -> AsyncIterator[DatasetServer]:
    async with dataset_service(tmp_path, nats.url, inference.address) as running:
        yield running


@pytest.fixture
def client(server: DatasetServer) -> DatasetClient:
    return server.client()


def asked(*sources: str, recipes: tuple[Recipe, ...] = (HEADINGS, QUESTIONS)) -> Dataset:
    return Dataset(
        display_name="Acme", source_files=sources, recipes=recipes, base_model=BASE_MODEL
    )


async def create(client: DatasetClient, dataset: Dataset, **fields: object) -> Dataset:
    request = CreateDatasetRequest(parent="projects/acme", dataset=dataset, **fields)  # type: ignore[arg-type]
    return await client.datasets.CreateDataset(request)


async def ended(client: DatasetClient, name: str) -> Dataset:
    async def look() -> Dataset:
        dataset = await client.datasets.GetDataset(GetDatasetRequest(name=name))
        assert dataset.state != State.BUILDING
        return dataset

    return await eventually(look, timeout=60)


async def test_documents_become_rows(client: DatasetClient) -> None:
    word = await client.upload(handbook(), "handbook.docx", file_id="file-handbook")
    policy = await client.upload(POLICY, "policy.md", file_id="file-policy")
    created = await create(client, asked(word.name, policy.name), dataset_id="acme-1")
    assert (created.name, created.state) == ("projects/acme/datasets/acme-1", State.BUILDING)
    assert [source.sha256 for source in created.sources] == [word.sha256, policy.sha256]

    dataset = await ended(client, created.name)
    assert dataset.state == State.READY
    assert not dataset.HasField("error")
    assert not dataset.HasField("progress")
    assert dict(dataset.statistics.rows_by_recipe) == {"headings": 2, "questions": 2}
    assert dict(dataset.statistics.dropped_by_reason) == {"answer_in_question": 2}
    assert (dataset.statistics.rows, dataset.statistics.documents) == (4, 2)

    file = await client.files.GetFile(GetFileRequest(name=dataset.file))
    assert (file.purpose, file.display_name) == (File.Purpose.FINE_TUNE, "Acme.jsonl")
    lines = [json.loads(line) for line in (await client.download(file.name)).splitlines()]
    pairs = [tuple(message["content"] for message in line["messages"]) for line in lines]
    assert pairs == [
        ("Handbook > Leave", "Everyone at Acme gets 24 days of leave."),
        ("Policy > Refunds", "Acme refunds purchases within 52 days. Be kind."),
        ("How many days, Everyone?", "24"),
        ("How many days, Acme?", "52"),
    ]
    assert all(set(line) == {"messages"} for line in lines)


async def test_each_row_tells_where_it_comes_from(client: DatasetClient) -> None:
    policy = await client.upload(POLICY, "policy.md")
    name = (await create(client, asked(policy.name))).name
    dataset = await ended(client, name)
    first = await client.datasets.ListDatasetRows(ListDatasetRowsRequest(parent=name, page_size=1))
    second = await client.datasets.ListDatasetRows(
        ListDatasetRowsRequest(parent=name, page_size=5, page_token=first.next_page_token)
    )
    assert second.next_page_token == ""
    rows = [*first.rows, *second.rows]
    assert [row.recipe for row in rows] == ["headings", "questions"]
    assert {row.origins[0].source_file for row in rows} == {policy.name}
    assert {tuple(row.origins[0].heading_path) for row in rows} == {("Policy", "Refunds")}
    # Words of prompt and answer, and two more for each message by the scripted template.
    assert [row.token_count for row in rows] == [3 + 8 + 4, 4 + 1 + 4]
    assert dataset.statistics.tokens == 24
    assert dataset.statistics.max_row_tokens == 15
    stored = [json.loads(line) for line in (await client.download(dataset.file)).splitlines()]
    assert [[message.content for message in row.messages] for row in rows] == [
        [message["content"] for message in row["messages"]] for row in stored
    ]


@pytest.mark.parametrize("token", ["x", "WyIiLFtdXQ"])
async def test_a_damaged_page_token_of_rows_is_refused(client: DatasetClient, token: str) -> None:
    name = (await create(client, asked((await client.upload(POLICY)).name))).name
    await ended(client, name)
    with pytest.raises(InvalidArgument):
        await client.datasets.ListDatasetRows(ListDatasetRowsRequest(parent=name, page_token=token))


async def test_the_same_documents_make_the_same_bytes(client: DatasetClient) -> None:
    facts = "".join(f"## Part {n}\n\nThing{n} of Acme takes {n + 10} days.\n\n" for n in range(20))
    source = (await client.upload(facts.encode())).name
    digests = set()
    for _ in range(2):
        dataset = await ended(client, (await create(client, asked(source))).name)
        file = await client.files.GetFile(GetFileRequest(name=dataset.file))
        digests.add((file.sha256, dataset.digest, dataset.artifacts.rows_sha256))
    assert len(digests) == 1


async def test_the_model_is_asked_greedily_for_the_callers_project(
    client: DatasetClient, model: ScriptedInference
) -> None:
    await ended(client, (await create(client, asked((await client.upload(POLICY)).name))).name)
    assert model.asked
    for request in model.asked:
        assert (request.parent, request.model) == ("projects/acme", BASE_MODEL)
        assert request.sampling.HasField("temperature")
        assert (request.sampling.temperature, request.sampling.max_tokens) == (0, 64)


async def test_a_restart_in_the_middle_of_a_build_finishes_it(
    tmp_path: Path, nats: NatsProcess, model: ScriptedInference, inference: Serving
) -> None:
    model.open.clear()
    async with dataset_service(tmp_path, nats.url, inference.address) as server:
        client = server.client()
        source = (await client.upload(POLICY)).name
        name = (await create(client, asked(source))).name
        await eventually(lambda: model.asked)
        building = await client.datasets.GetDataset(GetDatasetRequest(name=name))
        assert building.state == State.BUILDING
        assert building.progress.stage
        # What was pinned is built, whatever becomes of the file.
        await client.files.DeleteFile(DeleteFileRequest(name=source))
    model.open.set()
    async with dataset_service(tmp_path, nats.url, inference.address) as server:
        client = server.client()
        dataset = await ended(client, name)
        assert dataset.state == State.READY
        assert await client.file_names() == [dataset.file]


async def test_a_build_outlives_an_outage_of_inference(
    tmp_path: Path, nats: NatsProcess, model: ScriptedInference
) -> None:
    model.open.clear()
    async with serving(*model.services()) as running:
        address = running.address
        server_context = dataset_service(tmp_path, nats.url, address)
        server = await server_context.__aenter__()
        client = server.client()
        name = (await create(client, asked((await client.upload(POLICY)).name))).name
        await eventually(lambda: model.asked)
    # The service is gone in the middle of an answer; now it comes back, and half answers too.
    model.open.set()
    model.cut = 3
    async with serving(*model.services(), address=address):
        dataset = await ended(client, name)
        await server_context.__aexit__(None, None, None)
    assert dataset.state == State.READY
    assert dict(dataset.statistics.rows_by_recipe) == {"headings": 1, "questions": 1}
    assert model.cut == 0


async def test_an_answer_refused_for_a_while_is_asked_for_again(
    client: DatasetClient, model: ScriptedInference
) -> None:
    refusals = 4

    def refuse_at_first(prompt: str) -> str:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Unavailable("loading", reason="LOADING")
        return answer(prompt)

    model.answer = refuse_at_first
    dataset = await ended(
        client, (await create(client, asked((await client.upload(POLICY)).name))).name
    )
    assert dict(dataset.statistics.rows_by_recipe) == {"headings": 1, "questions": 1}


async def test_a_defect_of_the_model_fails_the_build_with_a_reason(
    client: DatasetClient, model: ScriptedInference
) -> None:
    def fail(prompt: str) -> str:
        raise FailedPrecondition("the adapter does not fit", reason="NO_FIT")

    model.answer = fail
    dataset = await ended(
        client, (await create(client, asked((await client.upload(POLICY)).name))).name
    )
    assert dataset.state == State.FAILED
    assert dataset.error.message == "the adapter does not fit"
    info = ErrorInfo()
    assert dataset.error.details[0].Unpack(info)
    assert info.reason == "NO_FIT"
    assert dataset.file == ""
    with pytest.raises(FailedPrecondition, match="FAILED"):
        await client.datasets.ListDatasetRows(ListDatasetRowsRequest(parent=dataset.name))


async def test_a_build_without_rows_fails_and_says_what_was_dropped(
    client: DatasetClient, model: ScriptedInference
) -> None:
    model.answer = lambda prompt: "no question"
    source = (await client.upload(POLICY)).name
    dataset = await ended(client, (await create(client, asked(source, recipes=(QUESTIONS,)))).name)
    assert dataset.state == State.FAILED
    assert dataset.error.message == "the documents gave no rows; dropped: 2 not_a_question"


async def test_a_changed_base_model_fails_the_build(
    client: DatasetClient, model: ScriptedInference
) -> None:
    model.open.clear()
    name = (await create(client, asked((await client.upload(POLICY)).name))).name
    await eventually(lambda: model.asked)
    model.base_model.digest = "e" * 64
    model.open.set()
    dataset = await ended(client, name)
    assert dataset.base_model_digest == DIGEST
    assert dataset.state == State.FAILED
    assert "has changed" in dataset.error.message


async def test_deleting_a_dataset_ends_its_build(
    client: DatasetClient, model: ScriptedInference
) -> None:
    model.open.clear()
    source = (await client.upload(POLICY)).name
    name = (await create(client, asked(source), dataset_id="twice")).name
    await eventually(lambda: model.asked)
    await client.datasets.DeleteDataset(DeleteDatasetRequest(name=name))
    with pytest.raises(NotFound):
        await client.datasets.GetDataset(GetDatasetRequest(name=name))
    model.open.set()
    with pytest.raises(NotFound):
        await client.datasets.DeleteDataset(DeleteDatasetRequest(name=name))
    shown = GetDatasetRequest(name=name, show_deleted=True)
    tombstone = await client.datasets.GetDataset(shown)
    assert tombstone.HasField("delete_time")
    # A name is never given twice: what refers to it keeps its meaning.
    with pytest.raises(AlreadyExists):
        await create(client, asked(source, recipes=(HEADINGS,)), dataset_id="twice")


async def test_a_request_id_makes_one_dataset(client: DatasetClient) -> None:
    source = (await client.upload(POLICY)).name
    first = await create(client, asked(source), request_id="r1")
    assert (await create(client, asked(source), request_id="r1")).name == first.name
    assert (await create(client, asked(source), request_id="r2")).name != first.name
    named = await create(client, asked(source), request_id="r3", dataset_id="mine")
    assert named.name == "projects/acme/datasets/mine"
    assert (await create(client, asked(source), request_id="r3")).name == named.name
    with pytest.raises(AlreadyExists):
        await create(client, asked(source), request_id="r4", dataset_id="mine")
    with pytest.raises(InvalidArgument) as caught:
        await create(client, asked(source, recipes=(HEADINGS,)), request_id="r1")
    assert caught.value.field == "request_id"
    page = await client.datasets.ListDatasets(
        ListDatasetsRequest(parent="projects/acme", order_by="create_time", page_size=2)
    )
    assert [dataset.request_id for dataset in page.datasets] == ["r1", "r2"]
    assert page.next_page_token


async def test_validation_stores_nothing(client: DatasetClient) -> None:
    source = (await client.upload(POLICY)).name
    checked = await create(client, asked(source), validate_only=True)
    assert checked.sources[0].file == source
    page = await client.datasets.ListDatasets(ListDatasetsRequest(parent="projects/acme"))
    assert list(page.datasets) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (Dataset(source_files=[]), "dataset.source_files"),
        (Dataset(source_files=["projects/acme/files/file-1"] * 2), "dataset.source_files"),
        (Dataset(source_files=["file-1"]), "dataset.source_files"),
        (Dataset(recipes=[]), "dataset.recipes"),
        (Dataset(recipes=[Recipe()]), "dataset.recipes[0]"),
        (Dataset(recipes=[HEADINGS, HEADINGS]), "dataset.recipes"),
        (
            Dataset(recipes=[Recipe(headings={"max_section_tokens": -1})]),
            "dataset.recipes[0].headings.max_section_tokens",
        ),
        (
            Dataset(recipes=[Recipe(questions={"model": "gpt-4"})]),
            "dataset.recipes[0].questions.model",
        ),
        (Dataset(split={"validation_share": 0.6}), "dataset.split.validation_share"),
        (Dataset(quality_rules=[QualityRule(action=QualityRule.DROP)]), "dataset.quality_rules"),
        (Dataset(base_model="luthier-starter"), "dataset.base_model"),
        (Dataset(display_name="a\nb"), "dataset.display_name"),
    ],
)
async def test_a_wrong_request_is_refused(
    client: DatasetClient, change: Dataset, field: str
) -> None:
    await client.upload(POLICY, file_id="file-1")
    dataset = asked("projects/acme/files/file-1")
    changed = field.split(".")[1].split("[")[0]
    dataset.ClearField(changed)
    dataset.MergeFrom(change)
    with pytest.raises(InvalidArgument) as caught:
        await create(client, dataset)
    assert caught.value.field == field


@pytest.mark.parametrize(("name", "data"), [("a.docx", POLICY), ("a.md", b"  \n")])
async def test_a_document_that_cannot_be_read_fails_the_build_and_is_named(
    client: DatasetClient, name: str, data: bytes
) -> None:
    good, bad = await client.upload(POLICY), await client.upload(data, name)
    dataset = await ended(client, (await create(client, asked(good.name, bad.name))).name)
    assert dataset.state == State.FAILED
    assert dataset.error.message.startswith(f"{name} ({bad.name}) cannot be read: ")
    info = ErrorInfo()
    assert dataset.error.details[0].Unpack(info)
    assert info.reason == "UNREADABLE_DOCUMENT"


async def test_a_document_that_cannot_be_read_is_left_out_if_asked(client: DatasetClient) -> None:
    good, bad = await client.upload(POLICY), await client.upload(POLICY, "a.docx")
    draft = asked(bad.name, good.name, recipes=(HEADINGS,))
    draft.skip_unreadable = True
    dataset = await ended(client, (await create(client, draft)).name)
    assert (dataset.state, dataset.statistics.rows) == (State.READY, 1)
    report = await client.report(dataset.name)
    found = {finding.check: finding for finding in report.findings}
    unreadable = found[QualityCheck.UNREADABLE_DOCUMENT]
    assert unreadable.count == 1
    assert unreadable.examples[0].source_file == bad.name


async def test_a_file_without_a_reader_is_refused_at_once(client: DatasetClient) -> None:
    bad = await client.upload(POLICY, "a.exe")
    with pytest.raises(InvalidArgument, match=f"a.exe .{bad.name}. cannot be read; .*[.]docx"):
        await create(client, asked(bad.name))
    page = await client.datasets.ListDatasets(ListDatasetsRequest(parent="projects/acme"))
    assert list(page.datasets) == []


async def test_unknown_sources_and_models_are_refused_by_name(client: DatasetClient) -> None:
    source = (await client.upload(POLICY)).name
    with pytest.raises(NotFound, match="projects/acme/files/none was not found"):
        await create(client, asked("projects/acme/files/none"))
    dataset = asked(source)
    dataset.base_model = "projects/library/baseModels/none"
    with pytest.raises(NotFound, match="projects/library/baseModels/none was not found"):
        await create(client, dataset)


async def test_states_are_announced(client: DatasetClient, nats: NatsProcess) -> None:
    heard: list[tuple[str, str]] = []

    async def hear(event: Event) -> None:
        *_, dataset, what = event.subject.split(".")
        name = f"projects/acme/datasets/{dataset}"
        fact: DatasetDeleted | DatasetChanged = (
            event.parse(DatasetDeleted) if what == "deleted" else event.parse(DatasetChanged)
        )
        assert fact.name == name
        # As it was when the event came, or later.
        record = await client.datasets.GetDataset(GetDatasetRequest(name=name, show_deleted=True))
        heard.append((name, State.Name(record.state) if what == "changed" else what))

    async with (
        open_nats(nats.url, name="test") as connection,
        Subscription(connection.jetstream(), ["luthier.dataset.v1.datasets.acme.*.*"], hear),
    ):
        name = (await create(client, asked((await client.upload(POLICY)).name))).name
        await ended(client, name)
        await eventually(lambda: (name, "READY") in heard)
        broken = (await client.upload(b"%PDF-1.7 broken", "broken.pdf")).name
        failed = (await create(client, asked(broken))).name
        await ended(client, failed)
        await eventually(lambda: (failed, "FAILED") in heard)
        await client.datasets.DeleteDataset(DeleteDatasetRequest(name=name))
        await eventually(lambda: (name, "deleted") in heard)


async def test_a_foreign_dataset_is_as_good_as_absent(
    server: DatasetServer, client: DatasetClient
) -> None:
    source = (await client.upload(POLICY)).name
    name = (await create(client, asked(source), dataset_id="theirs")).name
    dataset = await ended(client, name)
    rival = server.client(caller("rival"))
    calls: list[tuple[Callable[[Any], Awaitable[object]], Message, str]] = [
        (rival.files.GetFile, GetFileRequest(name=dataset.file), dataset.file),
        (rival.files.DeleteFile, DeleteFileRequest(name=dataset.file), dataset.file),
        (rival.datasets.GetDataset, GetDatasetRequest(name=name), name),
        (rival.datasets.DeleteDataset, DeleteDatasetRequest(name=name), name),
        (rival.datasets.ListDatasetRows, ListDatasetRowsRequest(parent=name), name),
    ]
    for method, request, target in calls:
        with pytest.raises(NotFound) as caught:
            await method(request)
        assert caught.value.message == f"{target} was not found"
        assert caught.value.metadata == {"resource": target}
    with pytest.raises(NotFound) as caught:
        await rival.download(source)
    assert caught.value.message == f"{source} was not found"
    # Nothing happened to what is not the rival's.
    assert await client.download(dataset.file)


async def test_a_foreign_project_is_as_good_as_absent(
    server: DatasetServer, client: DatasetClient
) -> None:
    source = (await client.upload(POLICY)).name
    rival = server.client(caller("rival"))
    with pytest.raises(NotFound, match="projects/acme was not found"):
        await rival.file_names("projects/acme")
    with pytest.raises(NotFound, match="projects/acme was not found"):
        await rival.datasets.ListDatasets(ListDatasetsRequest(parent="projects/acme"))
    with pytest.raises(NotFound, match="projects/acme was not found"):
        await rival.upload(b"x", parent="projects/acme")
    with pytest.raises(NotFound, match="projects/acme was not found"):
        await create(rival, asked(source))
    request = CreateDatasetRequest(parent="projects/rival", dataset=asked(source))
    with pytest.raises(NotFound, match=f"{source} was not found"):
        await rival.datasets.CreateDataset(request)
    mine = (await rival.upload(POLICY, parent="projects/rival")).name
    request.dataset.source_files[:] = [mine]
    request.dataset.base_model = "projects/acme/baseModels/theirs"
    with pytest.raises(NotFound, match="projects/acme/baseModels/theirs was not found"):
        await rival.datasets.CreateDataset(request)
    assert await client.file_names() == [source]
