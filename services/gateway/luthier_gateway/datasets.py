"""`/v1/datasets`, an extension in OpenAI's style: training rows made from documents."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from luthier.dataset.v1 import dataset_pb2, dataset_service_pb2
from luthier_common.names import id_of

from luthier_gateway.dataset_request import CreationRequest, PreviewRequest
from luthier_gateway.dataset_views import to_dataset, to_preview, to_report, to_row
from luthier_gateway.openai.names import (
    ADAPTERS,
    DATASETS,
    FILES,
    cursor,
    resource,
)
from luthier_gateway.openai.pages import gather, page
from luthier_gateway.openai.tuned_names import public_names
from luthier_gateway.owners import Owners, caller_parent, caller_project
from luthier_gateway.recipes import models_of
from luthier_gateway.requests import After, Limit, Order, OwnersDependency, order_by

router = APIRouter(prefix="/datasets")
_READING_SECONDS = 300.0
"""A preview reads documents and may ask a model; what a build made may have to be fetched first."""

SourceFile = Annotated[str | None, Query(max_length=200)]
"""Only what was made from this file."""

Position = Annotated[str | None, Query(max_length=2000)]
"""`after` of the page before."""


@router.post("")
async def create_dataset(body: CreationRequest, owners: OwnersDependency) -> dict[str, Any]:
    """Start a build, or only check whether it could; the outcome is read from `status`."""
    request = dataset_service_pb2.CreateDatasetRequest(
        parent=caller_parent(),
        dataset=await body.to_proto(owners),
        validate_only=body.validate_only,
    )
    made = await owners.datasets.CreateDataset(request)
    shown = (await _shown(owners, [made]))[0]
    return shown | {"id": None, "status": "valid"} if body.validate_only else shown


@router.post("/preview")
async def preview_dataset(body: PreviewRequest, owners: OwnersDependency) -> dict[str, Any]:
    """Show the first rows as the model would read them, and an estimate of the whole."""
    request = dataset_service_pb2.PreviewDatasetRequest(
        parent=caller_parent(), dataset=await body.to_proto(owners), page_size=body.limit
    )
    return to_preview(await owners.datasets.PreviewDataset(request, timeout=_READING_SECONDS))


@router.get("")
async def list_datasets(
    owners: OwnersDependency,
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
    source_file: SourceFile = None,
    show_deleted: bool = False,
) -> dict[str, Any]:
    """List the project's datasets, perhaps only those that saw a file; deleted ones on request."""
    source = cursor(caller_project(), FILES, source_file)

    async def fetch(size: int, token: str) -> tuple[list[dataset_pb2.Dataset], str]:
        found = await owners.datasets.ListDatasets(
            dataset_service_pb2.ListDatasetsRequest(
                parent=caller_parent(),
                page_size=size,
                page_token=token,
                after=cursor(caller_project(), DATASETS, after),
                order_by=order_by(order),
                source_file=source,
                show_deleted=show_deleted,
            )
        )
        return list(found.datasets), found.next_page_token

    datasets, has_more = await gather(fetch, limit)
    return page(await _shown(owners, datasets), has_more)


@router.get("/{dataset_id}")
async def retrieve_dataset(dataset_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Return a dataset."""
    name = resource(caller_project(), DATASETS, dataset_id)
    request = dataset_service_pb2.GetDatasetRequest(name=name)
    return (await _shown(owners, [await owners.datasets.GetDataset(request)]))[0]


@router.delete("/{dataset_id}")
async def delete_dataset(dataset_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Delete a dataset and name what was made from it; its files of rows stay."""
    name = resource(caller_project(), DATASETS, dataset_id)
    request = dataset_service_pb2.DeleteDatasetRequest(name=name)
    dataset = await owners.datasets.DeleteDataset(request)
    dependents = [id_of(one) for one in dataset.dependents]
    return {"id": dataset_id, "object": "dataset", "deleted": True, "dependents": dependents}


@router.get("/{dataset_id}/rows")
async def list_rows(
    dataset_id: str,
    owners: OwnersDependency,
    limit: Limit = 20,
    after: Position = None,
    source_file: SourceFile = None,
) -> dict[str, Any]:
    """Show rows of a dataset that is ready; `after` in the answer asks for the next ones."""
    found = await owners.datasets.ListDatasetRows(
        dataset_service_pb2.ListDatasetRowsRequest(
            parent=resource(caller_project(), DATASETS, dataset_id),
            page_size=limit,
            page_token=after or "",
            source_file=cursor(caller_project(), FILES, source_file),
        ),
        timeout=_READING_SECONDS,
    )
    return {
        "object": "list",
        "data": [to_row(row) for row in found.rows],
        "has_more": bool(found.next_page_token),
        "after": found.next_page_token or None,
    }


@router.get("/{dataset_id}/report")
async def retrieve_report(dataset_id: str, request: Request, owners: OwnersDependency) -> Any:
    """Return the quality report of a dataset that is ready; for people with `text/markdown`."""
    name = resource(caller_project(), DATASETS, dataset_id)
    report = await owners.datasets.GetQualityReport(
        dataset_service_pb2.GetQualityReportRequest(name=f"{name}/qualityReport"),
        timeout=_READING_SECONDS,
    )
    if "text/markdown" in request.headers.get("accept", ""):
        return Response(report.text, media_type="text/markdown")
    return to_report(dataset_id, report)


@router.get("/{dataset_id}/manifest")
async def retrieve_manifest(dataset_id: str, owners: OwnersDependency) -> Response:
    """Return the manifest of a dataset that is ready, byte by byte as it is stored."""
    name = resource(caller_project(), DATASETS, dataset_id)
    manifest = await owners.datasets.GetManifest(
        dataset_service_pb2.GetManifestRequest(name=f"{name}/manifest"), timeout=_READING_SECONDS
    )
    return Response(manifest.json, media_type="application/json")


async def _shown(owners: Owners, datasets: list[dataset_pb2.Dataset]) -> list[dict[str, Any]]:
    recipes = [recipe for dataset in datasets for recipe in dataset.recipes]
    adapters = (name for recipe in recipes for name in models_of(recipe) if _is_adapter(name))
    models = await public_names(owners, adapters)
    return [to_dataset(dataset, models) for dataset in datasets]


def _is_adapter(name: str) -> bool:
    return f"/{ADAPTERS}/" in name
