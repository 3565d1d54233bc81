"""`/v1/datasets`, an extension in OpenAI's style: training rows made from documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from luthier.dataset.v1 import dataset_pb2, dataset_service_pb2
from luthier_common.names import id_of
from pydantic import Field

from luthier_gateway.openai.errors import job_error
from luthier_gateway.openai.jobs import base_model
from luthier_gateway.openai.names import DATASETS, FILES, cursor, resource
from luthier_gateway.openai.pages import gather, page
from luthier_gateway.owners import caller_parent, caller_project
from luthier_gateway.requests import After, Body, Limit, Order, OwnersDependency, Text, order_by

router = APIRouter(prefix="/datasets")
_READING_SECONDS = 300.0
"""Every document is read once before a dataset is taken on."""

_STATUSES = {
    dataset_pb2.Dataset.BUILDING: "building",
    dataset_pb2.Dataset.READY: "ready",
    dataset_pb2.Dataset.FAILED: "failed",
}
Count = Annotated[int, Field(ge=1, lt=2**31)]


class RecipeRequest(Body):
    """One way to turn documents into rows."""

    type: Literal["headings", "questions"]
    max_section_tokens: Count | None = None
    questions_per_statement: Count | None = None

    def to_proto(self) -> dataset_pb2.Recipe:
        """Return the recipe."""
        if self.type == "headings":
            headings = dataset_pb2.HeadingsRecipe(max_section_tokens=self.max_section_tokens or 0)
            return dataset_pb2.Recipe(headings=headings)
        questions = dataset_pb2.QuestionsRecipe(
            questions_per_statement=self.questions_per_statement or 0
        )
        return dataset_pb2.Recipe(questions=questions)


class DatasetRequest(Body):
    """What to build."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    source_files: Annotated[list[Text], Field(min_length=1)]
    recipes: Annotated[list[RecipeRequest], Field(min_length=1)]
    name: Annotated[str, Field(max_length=200)] = ""


@router.post("")
async def create_dataset(body: DatasetRequest, owners: OwnersDependency) -> dict[str, Any]:
    """Start a build; the outcome is read from `status`."""
    model = await base_model(owners, body.model)
    dataset = dataset_pb2.Dataset(
        display_name=body.name,
        source_files=[resource(caller_project(), FILES, one) for one in body.source_files],
        recipes=[recipe.to_proto() for recipe in body.recipes],
        base_model=model,
    )
    return to_dataset(
        await owners.datasets.CreateDataset(
            dataset_service_pb2.CreateDatasetRequest(parent=caller_parent(), dataset=dataset),
            timeout=_READING_SECONDS,
        )
    )


@router.get("")
async def list_datasets(
    owners: OwnersDependency, after: After = None, limit: Limit = 20, order: Order = "desc"
) -> dict[str, Any]:
    """List the project's datasets."""

    async def fetch(size: int, token: str) -> tuple[list[dataset_pb2.Dataset], str]:
        found = await owners.datasets.ListDatasets(
            dataset_service_pb2.ListDatasetsRequest(
                parent=caller_parent(),
                page_size=size,
                page_token=token,
                after=cursor(caller_project(), DATASETS, after),
                order_by=order_by(order),
            )
        )
        return list(found.datasets), found.next_page_token

    datasets, has_more = await gather(fetch, limit)
    return page([to_dataset(dataset) for dataset in datasets], has_more)


@router.get("/{dataset_id}")
async def retrieve_dataset(dataset_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Return a dataset."""
    name = resource(caller_project(), DATASETS, dataset_id)
    request = dataset_service_pb2.GetDatasetRequest(name=name)
    return to_dataset(await owners.datasets.GetDataset(request))


@router.delete("/{dataset_id}")
async def delete_dataset(dataset_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Delete a dataset; its file of rows stays."""
    name = resource(caller_project(), DATASETS, dataset_id)
    await owners.datasets.DeleteDataset(dataset_service_pb2.DeleteDatasetRequest(name=name))
    return {"id": dataset_id, "object": "dataset", "deleted": True}


@router.get("/{dataset_id}/rows")
async def list_rows(dataset_id: str, owners: OwnersDependency, limit: Limit = 20) -> dict[str, Any]:
    """Show the first rows of a dataset that is ready."""
    name = resource(caller_project(), DATASETS, dataset_id)
    found = await owners.datasets.ListDatasetRows(
        dataset_service_pb2.ListDatasetRowsRequest(parent=name, page_size=limit)
    )
    rows = [_to_row(row) for row in found.rows]
    return {"object": "list", "data": rows, "has_more": bool(found.next_page_token)}


def to_dataset(dataset: dataset_pb2.Dataset) -> dict[str, Any]:
    """Return a dataset; `file` can be a job's `training_file` once it is there."""
    figures = dataset.statistics
    statistics = {
        "rows": figures.rows,
        "tokens": figures.tokens,
        "max_row_tokens": figures.max_row_tokens,
        "rows_by_recipe": dict(figures.rows_by_recipe),
        "dropped_by_reason": dict(figures.dropped_by_reason),
        "documents": figures.documents,
    }
    progress = dataset.progress
    return {
        "id": id_of(dataset.name),
        "object": "dataset",
        "created_at": dataset.create_time.seconds,
        "name": dataset.display_name,
        "status": _STATUSES.get(dataset.state, "building"),
        "model": id_of(dataset.base_model),
        "source_files": [id_of(name) for name in dataset.source_files],
        "recipes": [_to_recipe(recipe) for recipe in dataset.recipes],
        "progress": {"stage": progress.stage, "done": progress.done, "total": progress.total},
        "statistics": statistics if dataset.HasField("statistics") else None,
        "file": id_of(dataset.file) or None,
        "error": job_error(dataset.error) if dataset.HasField("error") else None,
    }


def _to_recipe(recipe: dataset_pb2.Recipe) -> dict[str, Any]:
    if recipe.HasField("headings"):
        limit = recipe.headings.max_section_tokens
        return {"type": "headings", "max_section_tokens": limit or None}
    count = recipe.questions.questions_per_statement
    return {"type": "questions", "questions_per_statement": count or None}


def _to_row(row: dataset_pb2.DatasetRow) -> dict[str, Any]:
    return {
        "object": "dataset.row",
        "messages": [{"role": one.role, "content": one.content} for one in row.messages],
        "recipe": row.recipe,
        "source_file": id_of(row.source_file),
        "heading_path": list(row.heading_path),
        "token_count": row.token_count,
    }
