"""Datasets, the extension: asked for with the SDK's plain `get`, `post` and `delete`."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from luthier.dataset.v1 import dataset_pb2, dataset_service_pb2, quality_pb2, recipe_pb2
from luthier.inference.v1 import adapter_service_pb2
from luthier_common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    PlatformError,
    Unavailable,
)
from luthier_common.names import id_of
from luthier_common.rpc.status import to_status

from tests.support.gateway import told
from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Dataset = dataset_pb2.Dataset
Boundary = recipe_pb2.Chunking.Boundary
TUNED = "ft:luthier-starter:default:support:ad-writer"
BASE = "projects/library/baseModels/luthier-starter"
ADAPTER = "projects/default/adapters/ad-writer"

# Every kind of recipe as a body has it, and as its owner is told.
RECIPES: list[tuple[dict[str, Any], recipe_pb2.Recipe]] = [
    (
        {"type": "raw", "chunk_tokens": 100, "overlap_tokens": 10, "pack": True},
        recipe_pb2.Recipe(raw=recipe_pb2.RawRecipe(chunk_tokens=100, overlap_tokens=10, pack=True)),
    ),
    (
        {"type": "keywords", "most_keywords": 5, "chunking": {"boundary": "semantic"}},
        recipe_pb2.Recipe(
            keywords=recipe_pb2.KeywordsRecipe(
                most_keywords=5, chunking=recipe_pb2.Chunking(boundary=Boundary.SEMANTIC)
            )
        ),
    ),
    (
        {"type": "headings", "max_section_tokens": 128},
        recipe_pb2.Recipe(headings=recipe_pb2.HeadingsRecipe(max_section_tokens=128)),
    ),
    (
        {
            "type": "questions",
            "questions_per_statement": 3,
            "answer": "passage",
            "model": TUNED,
            "judge": {"model": "luthier-starter", "template": "{statement}?"},
        },
        recipe_pb2.Recipe(
            questions=recipe_pb2.QuestionsRecipe(
                questions_per_statement=3,
                answer=recipe_pb2.QuestionsRecipe.PASSAGE,
                model=ADAPTER,
                judge=recipe_pb2.Judge(model=BASE, template="{statement}?"),
            )
        ),
    ),
    (
        {"type": "context", "passages": 4, "questions": {"model": "luthier-starter"}},
        recipe_pb2.Recipe(
            context=recipe_pb2.ContextRecipe(
                passages=4, questions=recipe_pb2.QuestionsRecipe(model=BASE)
            )
        ),
    ),
    (
        {"type": "semantic", "max_tokens": 300},
        recipe_pb2.Recipe(semantic=recipe_pb2.SemanticRecipe(max_tokens=300)),
    ),
    (
        {"type": "conversations", "assistants": ["Ann", "Bob"], "gap_seconds": 60},
        recipe_pb2.Recipe(
            conversations=recipe_pb2.ConversationsRecipe(assistants=["Ann", "Bob"], gap_seconds=60)
        ),
    ),
    (
        {"type": "pairs", "input_field": "q", "output_field": "a", "balance_labels": True},
        recipe_pb2.Recipe(
            pairs=recipe_pb2.PairsRecipe(input_field="q", output_field="a", balance_labels=True)
        ),
    ),
    (
        {"type": "code_summary", "model": TUNED, "direction": "both"},
        recipe_pb2.Recipe(
            code_summary=recipe_pb2.CodeSummaryRecipe(
                model=ADAPTER, direction=recipe_pb2.CodeSummaryRecipe.BOTH
            )
        ),
    ),
    (
        {"type": "code_metadata"},
        recipe_pb2.Recipe(code_metadata=recipe_pb2.CodeMetadataRecipe()),
    ),
    (
        {"type": "code_raw", "chunk_tokens": 2048},
        recipe_pb2.Recipe(code_raw=recipe_pb2.CodeRawRecipe(chunk_tokens=2048)),
    ),
    (
        {"type": "rows", "sequence_to_sequence": True},
        recipe_pb2.Recipe(rows=recipe_pb2.RowsRecipe(sequence_to_sequence=True)),
    ),
]


def body(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "model": "luthier-starter",
        "source_files": ["file-a", "file-b"],
        "recipes": [{"type": "headings", "max_section_tokens": 128}, {"type": "questions"}],
        "name": "Handbook",
    }
    return given | changed


async def create(sdk: Sdk, given: dict[str, Any]) -> Any:
    return await sdk(lambda c: c.post("/datasets", body=given, cast_to=object))


async def get(sdk: Sdk, path: str) -> Any:
    return await sdk(lambda c: c.get(path, cast_to=object))


async def test_a_dataset_is_asked_for(sdk: Sdk, owners: Owners) -> None:
    made = await create(sdk, body())
    sent = owners.last(dataset_service_pb2.CreateDatasetRequest)
    assert sent.parent == "projects/default"
    assert list(sent.dataset.source_files) == [
        "projects/default/files/file-a",
        "projects/default/files/file-b",
    ]
    assert sent.dataset.base_model == "projects/library/baseModels/luthier-starter"
    headings, questions = sent.dataset.recipes
    assert headings.headings.max_section_tokens == 128
    assert questions.HasField("questions")
    assert made == {
        "id": made["id"],
        "object": "dataset",
        "created_at": owners.datasets[
            f"projects/default/datasets/{made['id']}"
        ].create_time.seconds,
        "name": "Handbook",
        "status": "building",
        "model": "luthier-starter",
        "source_files": ["file-a", "file-b"],
        "recipes": [{"type": "headings", "max_section_tokens": 128}, {"type": "questions"}],
        "validation_share": 0.0,
        "seed": 0,
        "quality": [],
        "skip_unreadable": False,
        "generations_of": None,
        "progress": None,
        "statistics": None,
        "file": None,
        "validation_file": None,
        "digest": None,
        "artifacts": None,
        "error": None,
        "deleted": False,
    }
    assert not sent.dataset.HasField("split")
    assert not sent.validate_only


async def test_every_kind_of_recipe_goes_through_and_comes_back(sdk: Sdk, owners: Owners) -> None:
    fields = recipe_pb2.Recipe.DESCRIPTOR.oneofs_by_name["recipe"].fields
    assert {given["type"] for given, _ in RECIPES} == {field.name for field in fields}
    owners.add_adapter("ad-writer")
    made = await create(sdk, body(recipes=[given for given, _ in RECIPES]))
    sent = owners.last(dataset_service_pb2.CreateDatasetRequest)
    assert list(sent.dataset.recipes) == [recipe for _, recipe in RECIPES]
    assert made["recipes"] == [given for given, _ in RECIPES]
    listed = await get(sdk, "/datasets")
    assert listed["data"] == [made]


async def test_a_writer_that_was_deleted_is_shown_by_its_id(sdk: Sdk, owners: Owners) -> None:
    recipe = recipe_pb2.Recipe(questions=recipe_pb2.QuestionsRecipe(model=ADAPTER))
    owners.add_dataset("dataset-1", recipes=[recipe])
    shown = await get(sdk, "/datasets/dataset-1")
    assert shown["recipes"] == [{"type": "questions", "model": "ad-writer"}]


@pytest.mark.parametrize("kind", [Unavailable, DeadlineExceeded])
async def test_datasets_are_listed_while_the_owner_of_adapters_is_away(
    sdk: Sdk, owners: Owners, kind: type[PlatformError]
) -> None:
    owners.add_adapter("ad-writer")
    away = kind("the inference service does not answer", reason="AWAY")
    owners.failures[adapter_service_pb2.GetAdapterRequest] = away
    for model in (ADAPTER, f"{ADAPTER}-two"):
        recipe = recipe_pb2.Recipe(questions=recipe_pb2.QuestionsRecipe(model=model))
        owners.add_dataset(f"of-{id_of(model)}", recipes=[recipe])
    listed = await get(sdk, "/datasets")
    models = [one["recipes"][0]["model"] for one in listed["data"]]
    assert models == ["ad-writer-two", "ad-writer"]


async def test_a_build_shows_how_far_it_is(sdk: Sdk, owners: Owners) -> None:
    progress = dataset_pb2.BuildProgress(stage="reading", done=3, total=9)
    owners.add_dataset("dataset-1", progress=progress)
    shown = await get(sdk, "/datasets/dataset-1")
    assert shown["progress"] == {"stage": "reading", "done": 3, "total": 9}


@pytest.mark.parametrize("part", ["rows", "report", "manifest"])
async def test_what_a_build_made_may_take_long_to_fetch(
    http: httpx2.AsyncClient, owners: Owners, part: str
) -> None:
    owners.add_dataset("dataset-1", state=Dataset.READY)
    assert (await http.get(f"/datasets/dataset-1/{part}")).is_success
    left = owners.deadlines[-1]
    assert left is not None
    assert left > 60


async def test_null_is_the_same_as_not_given(sdk: Sdk, owners: Owners) -> None:
    await create(sdk, body(recipes=[{"type": "raw", "chunk_tokens": None}]))
    sent = owners.last(dataset_service_pb2.CreateDatasetRequest)
    assert list(sent.dataset.recipes) == [recipe_pb2.Recipe(raw=recipe_pb2.RawRecipe())]


async def test_everything_that_a_dataset_can_have_goes_through(sdk: Sdk, owners: Owners) -> None:
    made = await create(
        sdk,
        body(
            validation_share=0.1,
            seed=-7,
            quality=[
                {"check": "near_duplicate", "action": "drop"},
                {"check": "secret", "action": "block"},
            ],
            skip_unreadable=True,
            generations_of="dataset-old",
        ),
    )
    sent = owners.last(dataset_service_pb2.CreateDatasetRequest).dataset
    assert sent.split == dataset_pb2.Split(validation_share=0.1, seed=-7)
    assert list(sent.quality_rules) == [
        quality_pb2.QualityRule(
            check=quality_pb2.NEAR_DUPLICATE, action=quality_pb2.QualityRule.DROP
        ),
        quality_pb2.QualityRule(check=quality_pb2.SECRET, action=quality_pb2.QualityRule.BLOCK),
    ]
    assert sent.skip_unreadable
    assert sent.generations_of == "projects/default/datasets/dataset-old"
    assert (made["validation_share"], made["seed"]) == (0.1, -7)
    assert made["quality"] == [
        {"check": "near_duplicate", "action": "drop"},
        {"check": "secret", "action": "block"},
    ]
    assert (made["skip_unreadable"], made["generations_of"]) == (True, "dataset-old")


@pytest.mark.parametrize("route", ["/datasets", "/datasets/preview"])
@pytest.mark.parametrize("field", ["quality_rules", "split"])
async def test_a_field_that_nobody_knows_is_refused(
    http: httpx2.AsyncClient, route: str, field: str
) -> None:
    answer = await http.post(route, json=body(**{field: []}))
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": f"{field}: is not known",
        "type": "invalid_request_error",
        "param": field,
        "code": "unknown_parameter",
    }


async def test_deleted_datasets_are_listed_on_request(sdk: Sdk, owners: Owners) -> None:
    await get(sdk, "/datasets?show_deleted=true")
    assert owners.last(dataset_service_pb2.ListDatasetsRequest).show_deleted
    await get(sdk, "/datasets")
    assert not owners.last(dataset_service_pb2.ListDatasetsRequest).show_deleted


async def test_only_checking_stores_nothing(sdk: Sdk, owners: Owners) -> None:
    checked = await create(sdk, body(validate_only=True))
    # There is nothing to look up.
    assert (checked["id"], checked["status"]) == (None, "valid")
    assert owners.last(dataset_service_pb2.CreateDatasetRequest).validate_only
    assert not owners.datasets


async def test_a_ready_dataset_shows_its_figures_and_its_file(sdk: Sdk, owners: Owners) -> None:
    owners.add_dataset(
        "dataset-1",
        state=Dataset.READY,
        file="projects/default/files/file-rows",
        statistics=dataset_pb2.DatasetStatistics(
            rows=3,
            validation_rows=1,
            tokens=30,
            learned_tokens=20,
            max_row_tokens=12,
            rows_by_recipe={"headings": 3},
            rows_by_shape={"chat": 3},
            documents=1,
            token_histogram=[
                dataset_pb2.TokenBin(tokens=8, rows=2),
                dataset_pb2.TokenBin(tokens=16, rows=1),
            ],
        ),
        validation_file="projects/default/files/file-held",
        digest="d" * 64,
        artifacts=dataset_pb2.DatasetArtifacts(
            manifest_sha256="1" * 64, rows_sha256="2" * 64, report_sha256="3" * 64
        ),
    )
    shown = await get(sdk, "/datasets/dataset-1")
    assert (shown["status"], shown["file"]) == ("ready", "file-rows")
    assert (shown["validation_file"], shown["digest"]) == ("file-held", "d" * 64)
    assert shown["artifacts"] == {
        "manifest_sha256": "1" * 64,
        "rows_sha256": "2" * 64,
        "report_sha256": "3" * 64,
    }
    assert shown["statistics"] == {
        "rows": 3,
        "validation_rows": 1,
        "tokens": 30,
        "learned_tokens": 20,
        "max_row_tokens": 12,
        "token_histogram": [{"tokens": 8, "rows": 2}, {"tokens": 16, "rows": 1}],
        "rows_by_recipe": {"headings": 3},
        "rows_by_shape": {"chat": 3},
        "dropped_by_reason": {},
        "documents": 1,
        "model_calls": 0,
    }


async def test_a_failed_build_says_why(sdk: Sdk, owners: Owners) -> None:
    why = InvalidArgument(
        "projects/default/files/file-a cannot be read",
        reason="UNREADABLE_DOCUMENT",
        field="dataset.source_files",
    )
    owners.add_dataset("dataset-1", state=Dataset.FAILED, error=to_status(why))
    shown = await get(sdk, "/datasets/dataset-1")
    assert shown["status"] == "failed"
    assert shown["error"] == {
        "code": "unreadable_document",
        "message": "file-a cannot be read",
        "param": "source_files",
    }


async def test_datasets_are_paged_like_everything_else(sdk: Sdk, owners: Owners) -> None:
    for number in range(3):
        owners.add_dataset(f"dataset-{number}")
    page = await get(sdk, "/datasets?limit=2")
    assert [one["id"] for one in page["data"]] == ["dataset-2", "dataset-1"]
    assert (page["has_more"], page["last_id"]) == (True, "dataset-1")
    page = await get(sdk, "/datasets?limit=2&after=dataset-1")
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (["dataset-0"], False)
    page = await get(sdk, "/datasets?order=asc")
    assert [one["id"] for one in page["data"]] == ["dataset-0", "dataset-1", "dataset-2"]


async def test_the_datasets_that_saw_a_file_are_asked_for(sdk: Sdk, owners: Owners) -> None:
    await get(sdk, "/datasets?source_file=file-a")
    sent = owners.last(dataset_service_pb2.ListDatasetsRequest)
    assert sent.source_file == "projects/default/files/file-a"


def origin(file: str, heading: str, **place: Any) -> dataset_pb2.RowOrigin:
    return dataset_pb2.RowOrigin(
        source_file=f"projects/default/files/{file}",
        heading_path=[heading],
        place=dataset_pb2.RowPlace(**place),
    )


def row(source: str = "file-handbook", **changed: Any) -> dataset_pb2.DatasetRow:
    given: dict[str, Any] = {
        "messages": [dataset_pb2.RowMessage(role="user", content="Who?")],
        "recipe": "headings",
        "origins": [origin(source, "Handbook")],
        "token_count": 3,
    }
    return dataset_pb2.DatasetRow(**(given | changed))


async def test_rows_can_be_looked_at(sdk: Sdk, owners: Owners) -> None:
    owners.add_dataset("dataset-1", state=Dataset.READY)
    owners.rows = [
        row(
            origins=[
                origin("file-handbook", "Handbook", page=3, start_byte=70, end_byte=90),
                origin("file-b", "Prices", line=7),
            ],
            validation=True,
            findings=[quality_pb2.NEAR_DUPLICATE],
            line='{"text": "größer"}',
        )
    ]
    page = await get(sdk, "/datasets/dataset-1/rows")
    assert page == {
        "object": "list",
        "data": [
            {
                "object": "dataset.row",
                "messages": [{"role": "user", "content": "Who?"}],
                "recipe": "headings",
                "origins": [
                    {
                        "source_file": "file-handbook",
                        "heading_path": ["Handbook"],
                        "place": {"page": 3, "start_byte": 70, "end_byte": 90},
                    },
                    {"source_file": "file-b", "heading_path": ["Prices"], "place": {"line": 7}},
                ],
                "token_count": 3,
                "validation": True,
                "findings": ["near_duplicate"],
                "line": {"text": "größer"},
            }
        ],
        "has_more": False,
        "after": None,
    }


async def test_rows_are_paged_and_those_of_one_file_are_asked_for(sdk: Sdk, owners: Owners) -> None:
    owners.add_dataset("dataset-1", state=Dataset.READY)
    owners.rows = [row("file-a", token_count=n) for n in range(3)] + [row("file-b")]
    seen, after = [], ""
    while after is not None:
        path = f"/datasets/dataset-1/rows?limit=2&source_file=file-a&after={after}"
        page = await get(sdk, path)
        seen += [one["token_count"] for one in page["data"]]
        after = page["after"]
        assert page["has_more"] == (after is not None)
    assert seen == [0, 1, 2]


async def test_a_preview_shows_what_is_learned_and_what_the_whole_would_be(
    sdk: Sdk, owners: Owners
) -> None:
    spans = [
        dataset_pb2.RowSpan(text="<user>Who?<assistant>"),
        dataset_pb2.RowSpan(text="Ann.", learned=True),
    ]
    owners.rows = [row(spans=spans)] * 3
    shown = await sdk(
        lambda c: c.post("/datasets/preview", body=body(limit=2, seed=5), cast_to=object)
    )
    sent = owners.last(dataset_service_pb2.PreviewDatasetRequest)
    assert (sent.parent, sent.page_size, sent.dataset.split.seed) == ("projects/default", 2, 5)
    assert shown["object"] == "dataset.preview"
    assert [one["spans"] for one in shown["data"]] == 2 * [
        [
            {"text": "<user>Who?<assistant>", "learned": False},
            {"text": "Ann.", "learned": True},
        ]
    ]
    assert shown["dropped_by_reason"] == {"too short": 2}
    assert shown["estimate"] == {
        "rows": 40,
        "tokens": 400,
        "model_calls": 8,
        "model_tokens": 80,
        "read_share": 0.25,
    }
    assert not owners.datasets


async def test_a_report_is_for_programs_or_for_people(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    owners.add_dataset("dataset-1", state=Dataset.READY)
    owners.report = quality_pb2.QualityReport(
        rows=9,
        findings=[
            quality_pb2.QualityFinding(
                check=quality_pb2.PERSONAL_DATA,
                action=quality_pb2.QualityRule.REPORT,
                count=2,
                examples=[
                    quality_pb2.QualityExample(
                        source_file="projects/default/files/file-a",
                        display_name="a.pdf",
                        place="page 3",
                        detail="e-mail a…@…",
                    )
                ],
            )
        ],
        rows_by_language={"de": 9},
        rows_by_label={"spam": 4},
        notes=["one document only, so nothing is held out"],
        text="# Report\n\ngrößer",
    )
    shown = (await http.get("/datasets/dataset-1/report")).json()
    assert shown == {
        "object": "dataset.report",
        "dataset": "dataset-1",
        "rows": 9,
        "findings": [
            {
                "check": "personal_data",
                "action": "report",
                "count": 2,
                "examples": [
                    {
                        "source_file": "file-a",
                        "display_name": "a.pdf",
                        "place": "page 3",
                        "detail": "e-mail a…@…",
                    }
                ],
            }
        ],
        "rows_by_language": {"de": 9},
        "rows_by_label": {"spam": 4},
        "notes": ["one document only, so nothing is held out"],
    }
    text = await http.get("/datasets/dataset-1/report", headers={"accept": "text/markdown"})
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text == "# Report\n\ngrößer"


async def test_a_manifest_comes_as_it_is_stored(http: httpx2.AsyncClient, owners: Owners) -> None:
    owners.add_dataset("dataset-1", state=Dataset.READY)
    answer = await http.get("/datasets/dataset-1/manifest")
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == b'{"schema": 1,  "rows": 3}'


async def test_rows_of_a_dataset_that_is_not_ready_are_a_conflict(sdk: Sdk, owners: Owners) -> None:
    owners.add_dataset("dataset-1")
    owners.failures[dataset_service_pb2.ListDatasetRowsRequest] = FailedPrecondition(
        "projects/default/datasets/dataset-1 is not ready", reason="DATASET_NOT_READY"
    )
    with pytest.raises(openai.ConflictError) as caught:
        await get(sdk, "/datasets/dataset-1/rows")
    assert caught.value.code == "dataset_not_ready"
    assert "dataset-1 is not ready" in caught.value.message


async def test_a_deleted_dataset_is_gone(sdk: Sdk, owners: Owners) -> None:
    owners.add_dataset("dataset-1")
    owners.dependents = ["projects/default/datasets/dataset-2"]
    deleted = await sdk(lambda c: c.delete("/datasets/dataset-1", cast_to=object))
    assert deleted == {
        "id": "dataset-1",
        "object": "dataset",
        "deleted": True,
        "dependents": ["dataset-2"],
    }
    with pytest.raises(openai.NotFoundError) as caught:
        await get(sdk, "/datasets/dataset-1")
    assert caught.value.code == "dataset_not_found"


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"source_files": []}, "source_files"),
        ({"recipes": []}, "recipes"),
        ({"recipes": [{"type": "poems"}]}, "recipes.0.type"),
        ({"recipes": [{"pack": True}]}, "recipes.0.type"),
        ({"recipes": [{"type": ["raw"]}]}, "recipes.0.type"),
        ({"recipes": ["raw"]}, "recipes.0"),
        ({"recipes": [{"type": "rows"}, {"type": "raw", "size": 9}]}, "recipes.1.size"),
        ({"recipes": [{"type": "raw", "chunkTokens": 9}]}, "recipes.0.chunkTokens"),
        ({"recipes": [{"type": "raw", "chunk_tokens": "many"}]}, "recipes.0.chunk_tokens"),
        ({"recipes": [{"type": "raw", "chunk_tokens": 2**31}]}, "recipes.0.chunk_tokens"),
        ({"recipes": [{"type": "raw", "chunk_tokens": True}]}, "recipes.0.chunk_tokens"),
        ({"recipes": [{"type": "raw", "chunk_tokens": [1]}]}, "recipes.0.chunk_tokens"),
        ({"recipes": [{"type": "raw", "pack": 1}]}, "recipes.0.pack"),
        ({"recipes": [{"type": "keywords", "template": 3}]}, "recipes.0.template"),
        ({"recipes": [{"type": "keywords", "chunking": 3}]}, "recipes.0.chunking"),
        (
            {"recipes": [{"type": "keywords", "chunking": {"boundary": "page"}}]},
            "recipes.0.chunking.boundary",
        ),
        (
            {"recipes": [{"type": "keywords", "chunking": {"boundary": "boundary_unspecified"}}]},
            "recipes.0.chunking.boundary",
        ),
        ({"recipes": [{"type": "code_summary", "direction": 3}]}, "recipes.0.direction"),
        ({"recipes": [{"type": "conversations", "assistants": "Ann"}]}, "recipes.0.assistants"),
        ({"recipes": [{"type": "conversations", "assistants": [1]}]}, "recipes.0.assistants"),
        ({"recipes": [{"type": "questions", "model": "nobody"}]}, "recipes.0.model"),
        (
            {"recipes": [{"type": "questions", "judge": {"model": "nobody"}}]},
            "recipes.0.judge.model",
        ),
        ({"quality": [{"check": "boredom", "action": "drop"}]}, "quality.0.check"),
        ({"quality": [{"check": "secret", "action": "shred"}]}, "quality.0.action"),
        ({"quality": ["secret"]}, "quality.0"),
        ({"validation_share": 0.6}, "validation_share"),
        ({"seed": 2**63}, "seed"),
        ({"model": "nobody"}, "model"),
        ({"name": "x" * 201}, "name"),
    ],
)
async def test_a_wrong_field_is_named(
    sdk: Sdk, owners: Owners, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await create(sdk, body(**changed))
    assert caught.value.param == param
    assert not owners.datasets


@pytest.mark.parametrize(
    ("recipe", "param"),
    [
        ({"type": "keywords", "template": "\ud800"}, "recipes.0.template"),
        ({"type": "conversations", "assistants": ["\ud800"]}, "recipes.0.assistants"),
        ({"type": "questions", "model": "\ud800"}, "recipes.0.model"),
        ({"type": "keywords", "\ud800": 1}, "recipes.0.?"),
        ({"type": "\ud800"}, "recipes.0.type"),
    ],
)
async def test_half_a_character_in_a_recipe_is_a_bad_request(
    http: httpx2.AsyncClient, recipe: dict[str, Any], param: str
) -> None:
    content = json.dumps(body(recipes=[recipe]))
    answer = await http.post(
        "/datasets", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert told(answer)["param"] == param


async def test_what_is_known_is_named_beside_what_is_not(sdk: Sdk) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await create(sdk, body(recipes=[{"type": "raw", "chunk_token": 9}]))
    assert caught.value.code == "unknown_parameter"
    assert "known are chunk_tokens, overlap_tokens, pack" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        await create(sdk, body(recipes=[{"type": "code_summary", "direction": "up"}]))
    assert "must be one of to_code, to_summary, both" in caught.value.message


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("dataset.recipes[1].raw.chunk_tokens", "recipes.1.chunk_tokens"),
        ("dataset.recipes[0].questions.judge.template", "recipes.0.judge.template"),
        ("dataset.split.validation_share", "validation_share"),
        ("dataset.quality_rules[2].check", "quality.2.check"),
        ("dataset.generations_of", "generations_of"),
    ],
)
async def test_the_owners_fields_are_told_by_those_of_the_body(
    sdk: Sdk, owners: Owners, field: str, param: str
) -> None:
    owners.failures[dataset_service_pb2.CreateDatasetRequest] = InvalidArgument(
        f"{field} is too much", reason="INVALID_DATASET", field=field
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await create(sdk, body())
    assert caught.value.param == param
    assert f"{param} is too much" in caught.value.message


async def test_what_the_owner_refuses_names_the_field_of_the_body(sdk: Sdk, owners: Owners) -> None:
    owners.failures[dataset_service_pb2.CreateDatasetRequest] = InvalidArgument(
        "dataset.recipes[1] must be one of the known recipes",
        reason="INVALID_DATASET",
        field="dataset.recipes[1]",
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await create(sdk, body())
    assert caught.value.param == "recipes.1"
    assert "recipes.1 must be one of" in caught.value.message
    assert "dataset.recipes" not in caught.value.message


async def test_a_file_id_that_cannot_exist_is_a_file_that_does_not(
    sdk: Sdk, owners: Owners
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await create(sdk, body(source_files=["../files/x"]))
    assert caught.value.status_code == 404
    assert caught.value.code == "file_not_found"
