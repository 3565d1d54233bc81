"""Datasets, the extension: asked for with the SDK's plain `get`, `post` and `delete`."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from luthier.dataset.v1 import dataset_pb2, dataset_service_pb2
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_common.rpc.status import to_status

from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Dataset = dataset_pb2.Dataset


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
        "recipes": [
            {"type": "headings", "max_section_tokens": 128},
            {"type": "questions", "questions_per_statement": None},
        ],
        "progress": {"stage": "", "done": 0, "total": 0},
        "statistics": None,
        "file": None,
        "error": None,
    }


async def test_a_ready_dataset_shows_its_figures_and_its_file(sdk: Sdk, owners: Owners) -> None:
    owners.add_dataset(
        "dataset-1",
        state=Dataset.READY,
        file="projects/default/files/file-rows",
        statistics=dataset_pb2.DatasetStatistics(
            rows=3, tokens=30, max_row_tokens=12, rows_by_recipe={"headings": 3}, documents=1
        ),
    )
    shown = await get(sdk, "/datasets/dataset-1")
    assert (shown["status"], shown["file"]) == ("ready", "file-rows")
    assert shown["statistics"] == {
        "rows": 3,
        "tokens": 30,
        "max_row_tokens": 12,
        "rows_by_recipe": {"headings": 3},
        "dropped_by_reason": {},
        "documents": 1,
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


async def test_rows_can_be_looked_at(sdk: Sdk, owners: Owners) -> None:
    owners.add_dataset("dataset-1", state=Dataset.READY)
    page = await get(sdk, "/datasets/dataset-1/rows?limit=2")
    assert page["object"] == "list"
    assert page["has_more"] is True
    assert page["data"] == 2 * [
        {
            "object": "dataset.row",
            "messages": [{"role": "user", "content": "Who?"}],
            "recipe": "headings",
            "source_file": "file-handbook",
            "heading_path": ["Handbook"],
            "token_count": 3,
        }
    ]


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
    deleted = await sdk(lambda c: c.delete("/datasets/dataset-1", cast_to=object))
    assert deleted == {"id": "dataset-1", "object": "dataset", "deleted": True}
    with pytest.raises(openai.NotFoundError) as caught:
        await get(sdk, "/datasets/dataset-1")
    assert caught.value.code == "dataset_not_found"


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"source_files": []}, "source_files"),
        ({"recipes": []}, "recipes"),
        ({"recipes": [{"type": "poems"}]}, "recipes.0.type"),
        (
            {"recipes": [{"type": "headings", "max_section_tokens": 0}]},
            "recipes.0.max_section_tokens",
        ),
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
