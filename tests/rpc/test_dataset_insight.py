"""What can be known about a dataset: before it is built, when it is ready, after it is deleted."""

import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow
from luthier.dataset.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    DeleteDatasetRequest,
    GetDatasetRequest,
    ListDatasetRowsRequest,
    ListDatasetsRequest,
    PreviewDatasetRequest,
    PreviewDatasetResponse,
)
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import DeleteFileRequest, GetFileRequest
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule
from luthier.dataset.v1.recipe_pb2 import (
    ContextRecipe,
    HeadingsRecipe,
    PairsRecipe,
    QuestionsRecipe,
    RawRecipe,
    Recipe,
    RowsRecipe,
)
from luthier_common.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from luthier_common.nats_process import NatsProcess
from luthier_dataset import preview as previews
from luthier_dataset.build import artifacts, jobs
from luthier_dataset.tokens import TokenCounter

from tests.support.dataset_service import DatasetClient, DatasetServer, dataset_service, store
from tests.support.eventually import eventually
from tests.support.grpc_server import caller, serving
from tests.support.nats_server import nats_server
from tests.support.scripted_inference import BASE_MODEL, ScriptedInference, import_base_model

State = Dataset.State
HEADINGS = Recipe(headings=HeadingsRecipe())
QUESTIONS = Recipe(questions=QuestionsRecipe(questions_per_statement=1))
RAW = Recipe(raw=RawRecipe(chunk_tokens=8))
ROWS = Recipe(rows=RowsRecipe())
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def handbook(number: int) -> bytes:
    return (
        f"# Handbook {number}\n\n## Leave\n\nEveryone at house {number} gets {number + 20} days."
        f"\n\n## Travel\n\nTrains of house {number} leave at {number + 40} past nine.\n"
    ).encode()


def answer(prompt: str) -> str:
    if prompt.startswith("Write"):
        return f"What is said of {' '.join(prompt.split()[4:8])}?"
    return next(word.strip(".") for word in prompt.split()[::-1] if word.strip(".").isdigit())


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def model(tmp_path: Path) -> ScriptedInference:
    return ScriptedInference(await import_base_model(store(tmp_path)), answer)


@pytest.fixture
async def server(
    tmp_path: Path, nats: NatsProcess, model: ScriptedInference
) -> AsyncIterator[DatasetServer]:
    async with (
        serving(*model.services()) as running,
        dataset_service(tmp_path, nats.url, running.address) as opened,
    ):
        yield opened


@pytest.fixture
def client(server: DatasetServer) -> DatasetClient:
    return server.client()


def draft(*sources: str, recipes: tuple[Recipe, ...] = (HEADINGS,), **fields: object) -> Dataset:
    return Dataset(source_files=sources, recipes=recipes, base_model=BASE_MODEL, **fields)  # type: ignore[arg-type]


async def built(client: DatasetClient, dataset: Dataset, name: str = "") -> Dataset:
    request = CreateDatasetRequest(parent="projects/acme", dataset=dataset, dataset_id=name)
    created = await client.datasets.CreateDataset(request)

    async def look() -> Dataset:
        found = await client.datasets.GetDataset(GetDatasetRequest(name=created.name))
        assert found.state != State.BUILDING
        return found

    return await eventually(look, timeout=60)


async def handbooks(client: DatasetClient, count: int = 6) -> list[str]:
    files = [await client.upload(handbook(number), f"{number}.md") for number in range(count)]
    return [file.name for file in files]


async def rows(client: DatasetClient, name: str, **fields: object) -> list[DatasetRow]:
    request = ListDatasetRowsRequest(parent=name, page_size=1000, **fields)  # type: ignore[arg-type]
    return list((await client.datasets.ListDatasetRows(request)).rows)


async def preview(client: DatasetClient, dataset: Dataset, size: int = 0) -> PreviewDatasetResponse:
    request = PreviewDatasetRequest(parent="projects/acme", dataset=dataset, page_size=size)
    return await client.datasets.PreviewDataset(request)


async def test_a_split_holds_whole_documents_out(client: DatasetClient) -> None:
    sources = await handbooks(client)
    dataset = await built(client, draft(*sources, split={"validation_share": 0.4, "seed": 3}))
    assert dataset.statistics.rows == 12
    assert dataset.statistics.validation_rows == 4
    sides: dict[str, set[bool]] = {}
    for row in await rows(client, dataset.name):
        sides.setdefault(row.origins[0].source_file, set()).add(row.validation)
    assert all(len(side) == 1 for side in sides.values())
    train = (await client.download(dataset.file)).splitlines()
    held_out = (await client.download(dataset.validation_file)).splitlines()
    assert (len(train), len(held_out)) == (8, 4)
    assert not set(train) & set(held_out)
    minted = await client.files.GetFile(GetFileRequest(name=dataset.validation_file))
    assert (minted.dataset, minted.purpose) == (dataset.name, File.Purpose.FINE_TUNE)


@pytest.mark.parametrize("given", [False, True])
async def test_no_passage_of_a_held_out_document_is_shown_in_training(
    client: DatasetClient, given: bool
) -> None:
    context = ContextRecipe(passages=3, questions=QuestionsRecipe(questions_per_statement=1))
    sources = await handbooks(client, 30)
    if given:
        context = ContextRecipe(passages=3, question_field="ask", answer_field="reply")
        asks = "".join(f"Who gets days at house {number}?,{number}\n" for number in range(30))
        table = await client.upload(f"ask,reply\n{asks}".encode(), "asks.csv")
        sources.append(table.name)
    split = {"validation_share": 0.2, "seed": 1}
    recipe = Recipe(context=context)
    dataset = await built(client, draft(*sources, recipes=(recipe,), split=split))
    sides: dict[str, set[bool]] = {}
    shown = 0
    for row in await rows(client, dataset.name):
        passages = row.origins[1:] if given else row.origins
        shown += len({origin.source_file for origin in passages}) > 1
        for origin in passages:
            sides.setdefault(origin.source_file, set()).add(row.validation)
    assert shown, "passages of several documents stand in one row"
    assert all(len(side) == 1 for side in sides.values())
    assert 0 < dataset.statistics.validation_rows <= 0.2 * dataset.statistics.rows


async def test_questions_of_a_table_are_split_alone(client: DatasetClient) -> None:
    source = (await client.upload(b"ask,reply\na,b\n", "asks.csv")).name
    context = Recipe(context=ContextRecipe(question_field="ask", answer_field="reply"))
    both = draft(source, recipes=(HEADINGS, context), split={"validation_share": 0.2})
    with pytest.raises(InvalidArgument, match="make a dataset of each") as refused:
        await built(client, both)
    assert refused.value.field == "dataset.split.validation_share"


async def test_one_document_cannot_be_split_and_the_report_says_so(client: DatasetClient) -> None:
    source = (await handbooks(client, 1))[0]
    dataset = await built(client, draft(source, split={"validation_share": 0.5}))
    assert (dataset.state, dataset.validation_file) == (State.READY, "")
    report = await client.report(dataset.name)
    assert any("No rows are held out" in note for note in report.notes)
    assert "No rows are held out" in report.text


async def test_the_manifest_names_everything_by_digest(client: DatasetClient) -> None:
    sources = await handbooks(client, 2)
    dataset = await built(client, draft(*sources, recipes=(QUESTIONS,)))
    found = await client.manifest(dataset.name)
    manifest = json.loads(found.json)
    file = await client.files.GetFile(GetFileRequest(name=dataset.file))
    assert manifest["digest"] == dataset.digest
    assert manifest["files"] == {"train": file.sha256}
    assert [one["sha256"] for one in manifest["sources"]] == [
        source.sha256 for source in dataset.sources
    ]
    assert manifest["recipes"] == [{"questions": {"questions_per_statement": 1}}]
    assert manifest["artifacts"]["generations_sha256"] == dataset.artifacts.generations_sha256
    assert manifest["statistics"]["model_calls"] == 8
    assert {"luthier", "python", "sqlite", "tokenizers"} < set(manifest["versions"])
    # Of our sources: a change of the code shows, also between two releases.
    assert re.fullmatch("sha256:[0-9a-f]{64}", manifest["versions"]["luthier_dataset"])
    assert sources[0] not in found.json


async def test_the_rows_are_a_parquet_file_with_lineage(
    tmp_path: Path, client: DatasetClient
) -> None:
    sources = await handbooks(client, 2)
    dataset = await built(client, draft(*sources))
    data = await store(tmp_path).read("acme", dataset.artifacts.rows_sha256)
    table = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [row["origins"][0]["source"] for row in table] == [0, 0, 1, 1]
    second = table[1]["origins"][0]
    text = handbook(0)
    assert text[second["start_byte"] : second["end_byte"]].decode() == (
        "Trains of house 0 leave at 40 past nine."
    )
    assert second["sha256"] == dataset.sources[0].sha256
    assert (second["line"], second["heading_path"]) == (9, ["Handbook 0", "Travel"])


async def test_which_datasets_and_rows_saw_a_document(client: DatasetClient) -> None:
    sources = await handbooks(client, 3)
    one = await built(client, draft(*sources[:2]), "one")
    two = await built(client, draft(*sources[1:]), "two")
    twin = (await client.upload(handbook(1), "copy.md")).name

    async def saw(file: str, **fields: object) -> list[str]:
        request = ListDatasetsRequest(parent="projects/acme", source_file=file, **fields)  # type: ignore[arg-type]
        return sorted(one.name for one in (await client.datasets.ListDatasets(request)).datasets)

    assert await saw(sources[0]) == [one.name]
    # The question is about what the document says, not about its name.
    assert await saw(sources[1]) == await saw(twin) == sorted([one.name, two.name])
    await client.datasets.DeleteDataset(DeleteDatasetRequest(name=two.name))
    await client.files.DeleteFile(DeleteFileRequest(name=sources[2]))
    assert await saw(sources[2]) == []
    assert await saw(sources[2], show_deleted=True) == [two.name]
    of_second = await rows(client, one.name, source_file=sources[1])
    assert [row.origins[0].heading_path[0] for row in of_second] == ["Handbook 1", "Handbook 1"]
    assert len(await rows(client, one.name)) == 4
    # What was minted says what the documents said, and so does what is made of that.
    later = await built(client, draft(one.file, recipes=(ROWS,)), "later")
    last = await built(client, draft(later.file, recipes=(ROWS,)), "last")
    assert await saw(sources[0]) == sorted([one.name, later.name, last.name])
    # The recipe `rows` made the same bytes of it.
    assert await saw(later.file) == sorted([later.name, last.name])


async def test_pages_of_the_rows_of_a_document_miss_nothing(client: DatasetClient) -> None:
    sources = await handbooks(client, 3)
    dataset = await built(client, draft(*sources))
    seen, token = [], ""
    while True:
        page = await client.datasets.ListDatasetRows(
            ListDatasetRowsRequest(
                parent=dataset.name, page_size=1, page_token=token, source_file=sources[1]
            )
        )
        seen += [row.origins[0].heading_path[-1] for row in page.rows]
        if not (token := page.next_page_token):
            break
    assert seen == ["Leave", "Travel"]


async def test_deleting_names_what_depends_on_it(client: DatasetClient) -> None:
    source = (await handbooks(client, 1))[0]
    dataset = await built(client, draft(source), "base")
    later = await built(client, draft(dataset.file, recipes=(ROWS,)), "later")
    assert later.state == State.READY
    tombstone = await client.files.DeleteFile(DeleteFileRequest(name=source))
    assert list(tombstone.dependents) == [dataset.name]
    gone = await client.datasets.DeleteDataset(DeleteDatasetRequest(name=dataset.name))
    assert list(gone.dependents) == [dataset.file, later.name]
    with pytest.raises(NotFound):
        await rows(client, dataset.name)
    # What was made of it stays.
    assert len(await rows(client, later.name)) == 2


async def test_a_rule_can_block_the_build(client: DatasetClient) -> None:
    secret = b"# Access\n\nThe password is: aws_secret_access_key = "
    secret += b"'wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzKEYA'\n"
    source = (await client.upload(secret, "access.md")).name
    rule = QualityRule(check=QualityCheck.SECRET, action=QualityRule.BLOCK)
    blocked = await built(client, draft(source, quality_rules=[rule]))
    assert blocked.state == State.FAILED
    assert "1 with secret" in blocked.error.message
    assert "wJalrXUtnFEMI" not in blocked.error.message
    # What blocked it can be read in full.
    report = await client.report(blocked.name)
    assert "| Secret | 1 | blocks the build |" in report.text
    reported = await built(client, draft(source))
    assert reported.state == State.READY
    assert [[*row.findings] for row in await rows(client, reported.name)] == [[QualityCheck.SECRET]]


async def test_the_report_of_a_blocked_dataset_shows_what_blocked_it(
    client: DatasetClient,
) -> None:
    line = b'{"prompt": "Who?", "completion": "Ann."}\n'
    source = (await client.upload(3 * line, "people.jsonl")).name
    rule = QualityRule(check=QualityCheck.EXACT_DUPLICATE, action=QualityRule.BLOCK)
    blocked = await built(client, draft(source, recipes=(ROWS,), quality_rules=[rule]))
    assert blocked.state == State.FAILED
    assert "2 with exact_duplicate" in blocked.error.message
    report = await client.report(blocked.name)
    (found,) = [one for one in report.findings if one.check == QualityCheck.EXACT_DUPLICATE]
    assert (found.count, found.action) == (2, QualityRule.BLOCK)
    assert [(one.source_file, one.display_name, one.place) for one in found.examples] == [
        (source, "people.jsonl", "line 2"),
        (source, "people.jsonl", "line 3"),
    ]
    assert "- people.jsonl line 2: " in report.text


async def test_a_language_that_nobody_expects_can_be_left_out(client: DatasetClient) -> None:
    said = (
        "Every employee of the company gets twenty four days of leave in a year",
        "Jeder Mitarbeiter der Firma bekommt vierundzwanzig Tage Urlaub in einem Jahr",
        "Chaque employé de l'entreprise reçoit vingt-quatre jours de congé dans une année",
    )
    lines = "".join(json.dumps({"text": f"{text}."}) + "\n" for text in said)
    source = (await client.upload(lines.encode(), "rows.jsonl")).name
    rule = QualityRule(
        check=QualityCheck.UNEXPECTED_LANGUAGE, action=QualityRule.DROP, languages=["en", "de"]
    )
    dataset = await built(client, draft(source, recipes=(ROWS,), quality_rules=[rule]))
    kept = [json.loads(row.line)["text"] for row in await rows(client, dataset.name)]
    assert kept == [f"{text}." for text in said[:2]]
    assert dict(dataset.statistics.dropped_by_reason) == {"unexpected_language": 1}
    report = await client.report(dataset.name)
    (found,) = [one for one in report.findings if one.count]
    assert (found.examples[0].place, found.examples[0].detail) == ("line 3", "in fr")
    assert dict(report.rows_by_language) == {"en": 1, "de": 1, "fr": 1}


async def test_rows_of_two_shapes_are_refused(client: DatasetClient) -> None:
    source = (await handbooks(client, 1))[0]
    with pytest.raises(InvalidArgument) as refused:
        await built(client, draft(source, recipes=(HEADINGS, QUESTIONS, RAW)))
    assert refused.value.field == "dataset.recipes"
    assert "(chat rows by headings, text rows by raw)" in refused.value.message


async def test_rows_of_two_shapes_are_refused_by_the_build(client: DatasetClient) -> None:
    text = b'{"text": "Learned whole."}\n'
    sources = [*await handbooks(client, 1), (await client.upload(text, "rows.jsonl")).name]
    dataset = await built(client, draft(*sources, recipes=(HEADINGS, ROWS)))
    assert dataset.state == State.FAILED
    assert "chat rows by headings" in dataset.error.message
    assert "text rows by rows" in dataset.error.message


async def test_malformed_rows_are_reported_with_line_and_reason(client: DatasetClient) -> None:
    lines = b'{"prompt": "a", "completion": "b"}\n{"prompt": \n{"prompt": "c", "completion": "d"}\n'
    lines += b'{"messages": [{"role": "user", "content": "e"}]}\n'
    source = (await client.upload(lines, "rows.jsonl")).name
    dataset = await built(client, draft(source, recipes=(ROWS,)))
    assert dataset.statistics.rows == 2
    report = await client.report(dataset.name)
    found = {finding.check: finding for finding in report.findings}
    malformed = found[QualityCheck.MALFORMED_ROW]
    assert [example.place for example in malformed.examples] == ["line 2", "line 4"]
    assert malformed.count == 2
    assert "JSON" in malformed.examples[0].detail
    assert "assistant" in malformed.examples[1].detail


async def test_labels_are_balanced_over_all_documents(client: DatasetClient) -> None:
    tables = [
        "text,label\n" + "".join(f"good thing {part} {n},yes\n" for n in range(6)) + extra
        for part, extra in enumerate(("bad thing 1,no\n", "bad thing 2,no\n"))
    ]
    names = [(await client.upload(t.encode(), f"{n}.csv")).name for n, t in enumerate(tables)]
    pairs = PairsRecipe(input_field="text", output_field="label", balance_labels=True)
    dataset = await built(client, draft(*names, recipes=(Recipe(pairs=pairs),)))
    answers = [row.messages[-1].content for row in await rows(client, dataset.name)]
    assert sorted(answers) == ["no", "no", "yes", "yes"]
    report = await client.report(dataset.name)
    assert dict(report.rows_by_label) == {"yes": 12, "no": 2}


@pytest.mark.parametrize("action", [QualityRule.REPORT, QualityRule.DROP, QualityRule.BLOCK])
async def test_labels_far_from_balance_are_found(
    client: DatasetClient, action: QualityRule.Action
) -> None:
    table = "text,label\n" + "".join(
        f"thing {n} of kind {n * n},{'no' if n < 3 else 'yes'}\n" for n in range(43)
    )
    source = (await client.upload(table.encode(), "things.csv")).name
    pairs = Recipe(pairs=PairsRecipe(input_field="text", output_field="label"))
    rule = QualityRule(check=QualityCheck.LABEL_IMBALANCE, action=action)
    dataset = await built(client, draft(source, recipes=(pairs,), quality_rules=[rule]))
    report = await client.report(dataset.name)
    assert dict(report.rows_by_label) == {"yes": 40, "no": 3}
    (found,) = [one for one in report.findings if one.check == QualityCheck.LABEL_IMBALANCE]
    # Ten times the rarest are three times ten.
    assert found.count == 10
    if action == QualityRule.BLOCK:
        assert "10 with label_imbalance" in dataset.error.message
    else:
        left = 30 if action == QualityRule.DROP else 40
        answers = [row.messages[-1].content for row in await rows(client, dataset.name)]
        assert (answers.count("yes"), answers.count("no")) == (left, 3)


async def test_outputs_that_are_texts_are_no_labels(client: DatasetClient) -> None:
    table = "q,a\n" + "".join(f"what is {n} and {n}?,it is {2 * n}\n" for n in range(40))
    source = (await client.upload(table.encode(), "sums.csv")).name
    pairs = Recipe(pairs=PairsRecipe(input_field="q", output_field="a"))
    report = await client.report((await built(client, draft(source, recipes=(pairs,)))).name)
    assert not report.rows_by_label


async def test_a_page_of_long_rows_is_short(
    client: DatasetClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_PAGE_BYTES", 4000)
    lines = b"".join(
        json.dumps({"text": f"{n} " + "word " * 500}).encode() + b"\n" for n in range(4)
    )
    source = (await client.upload(lines, "long.jsonl")).name
    rules = [
        QualityRule(check=check, action=QualityRule.REPORT)
        for check in (QualityCheck.OVER_LONG, QualityCheck.NEAR_DUPLICATE)
    ]
    dataset = await built(client, draft(source, recipes=(ROWS,), quality_rules=rules))
    assert dataset.statistics.rows == 4
    sizes, token = [], ""
    while True:
        page = await client.datasets.ListDatasetRows(
            ListDatasetRowsRequest(parent=dataset.name, page_size=1000, page_token=token)
        )
        sizes.append(len(page.rows))
        if not (token := page.next_page_token):
            break
    assert sizes == [2, 2]


async def test_a_preview_shows_rows_as_the_model_reads_them(client: DatasetClient) -> None:
    sources = await handbooks(client, 4)
    found = await preview(client, draft(*sources), 3)
    assert len(found.rows) == 3
    spans = [(span.text, span.learned) for span in found.rows[0].spans]
    assert "".join(text for text, _ in spans) == (
        "user Handbook 0 > Leave end assistant Everyone at house 0 gets 20 days. end "
    )
    assert "Everyone at house 0 gets 20 days." in "".join(t for t, learned in spans if learned)
    assert "Handbook" not in "".join(text for text, learned in spans if learned)
    assert (found.estimate.rows, found.estimate.read_share) == (8, 1.0)
    page = await client.datasets.ListDatasets(ListDatasetsRequest(parent="projects/acme"))
    assert list(page.datasets) == []
    dataset = await built(client, draft(*sources))
    assert found.estimate.tokens == dataset.statistics.tokens


async def test_a_preview_asks_little_and_estimates_the_rest(
    client: DatasetClient, model: ScriptedInference
) -> None:
    sources = await handbooks(client, 20)
    found = await preview(client, draft(*sources, recipes=(QUESTIONS,)), 2)
    assert len(found.rows) == 2
    asked = len(model.asked)
    dataset = await built(client, draft(*sources, recipes=(QUESTIONS,)))
    assert asked < dataset.statistics.model_calls
    assert found.estimate.model_calls == dataset.statistics.model_calls
    assert found.estimate.rows == dataset.statistics.rows
    assert found.estimate.model_tokens > 0


async def test_a_preview_refuses_what_a_build_would_refuse(client: DatasetClient) -> None:
    source = (await handbooks(client, 1))[0]
    with pytest.raises(InvalidArgument) as caught:
        await preview(client, draft(source, recipes=()))
    assert caught.value.field == "dataset.recipes"
    broken = (await client.upload(b"no word", "a.docx")).name
    with pytest.raises(FailedPrecondition, match=r"a\.docx .* cannot be read"):
        await preview(client, draft(broken))
    with pytest.raises(NotFound):
        await preview(client, draft("projects/acme/files/none"))


async def set_template(folder: Path, model: ScriptedInference, template: str) -> None:
    config = json.dumps({"chat_template": template}).encode()
    blob = await store(folder).put_bytes("library", config)
    config_file = next(f for f in model.base_model.files if f.path == "tokenizer_config.json")
    config_file.sha256, config_file.size_bytes = blob.sha256, blob.size


async def test_the_service_itself_reads_nothing_as_the_model(
    client: DatasetClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("this takes long, and the service stands still meanwhile")

    for method in ("spans", "render", "encode"):
        monkeypatch.setattr(TokenCounter, method, refuse)
    found = await preview(client, draft(*await handbooks(client, 1), recipes=(QUESTIONS,)), 1)
    assert found.rows[0].spans
    assert found.estimate.model_tokens > 0


async def test_a_template_that_never_ends_is_ended(
    tmp_path: Path,
    client: DatasetClient,
    model: ScriptedInference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await set_template(tmp_path, model, ENDLESS)
    monkeypatch.setattr(jobs, "PREVIEW_SECONDS", 4)
    monkeypatch.setattr(jobs, "UNIT_SECONDS", 4)
    dataset = draft((await handbooks(client, 1))[0])
    with pytest.raises(FailedPrecondition, match=r"headings took longer .* 0\.md") as caught:
        await preview(client, dataset)
    assert caught.value.reason == "UNIT_TIMEOUT"
    failed = await built(client, dataset)
    assert failed.state == State.FAILED
    assert "headings took longer than 4 seconds over 0.md" in failed.error.message


async def test_a_preview_does_not_wait_for_a_model_that_is_away(
    client: DatasetClient, model: ScriptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(prompt: str) -> str:
        raise Unavailable("no engine", reason="ENGINE_AWAY")

    model.answer = away
    monkeypatch.setattr(previews, "_PATIENCE_SECONDS", 0.5)
    with pytest.raises(Unavailable, match="does not answer: no engine") as caught:
        await preview(client, draft(*await handbooks(client, 1), recipes=(QUESTIONS,)))
    assert caught.value.reason == "MODEL_AWAY"


async def test_a_preview_of_a_long_document_estimates_what_it_did_not_read(
    client: DatasetClient,
) -> None:
    source = (await client.upload(b"One short fact.\n\n" * 60_000, "long.txt")).name
    found = await preview(client, draft(source, recipes=(Recipe(raw=RawRecipe(chunk_tokens=900)),)))
    assert 0.1 < found.estimate.read_share < 0.9
    assert found.estimate.tokens == pytest.approx(180_000, rel=0.02)


async def test_what_is_not_ready_has_no_report(
    client: DatasetClient, server: DatasetServer, model: ScriptedInference
) -> None:
    model.open.clear()
    source = (await handbooks(client, 1))[0]
    request = CreateDatasetRequest(
        parent="projects/acme", dataset=draft(source, recipes=(QUESTIONS,)), dataset_id="slow"
    )
    name = (await client.datasets.CreateDataset(request)).name
    rival = server.client(caller("rival"))
    for user, error in ((client, FailedPrecondition), (rival, NotFound)):
        with pytest.raises(error):
            await user.report(name)
        with pytest.raises(error):
            await user.manifest(name)
    model.open.set()
