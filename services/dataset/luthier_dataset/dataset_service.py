"""The gRPC side of datasets: converts, calls, converts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    DeleteDatasetRequest,
    GetDatasetRequest,
    GetManifestRequest,
    GetQualityReportRequest,
    ListDatasetRowsRequest,
    ListDatasetRowsResponse,
    ListDatasetsRequest,
    ListDatasetsResponse,
    Manifest,
    PreviewDatasetRequest,
    PreviewDatasetResponse,
)
from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceServicer
from luthier.dataset.v1.quality_pb2 import QualityReport
from luthier_common.errors import NotFound, not_found
from luthier_common.names import parse

from luthier_dataset.datasets import PATTERN, Datasets
from luthier_dataset.preview import Previews


class DatasetService(DatasetServiceServicer):
    """Serves `luthier.dataset.v1.DatasetService`."""

    def __init__(self, datasets: Datasets, previews: Previews) -> None:
        self._datasets = datasets
        self._previews = previews

    async def CreateDataset(self, request: CreateDatasetRequest, context: Any) -> Dataset:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        return await self._datasets.create(
            request.parent,
            request.dataset,
            request.dataset_id,
            request.request_id,
            validate_only=request.validate_only,
        )

    async def GetDataset(self, request: GetDatasetRequest, context: Any) -> Dataset:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._datasets.get(request.name, show_deleted=request.show_deleted)

    async def ListDatasets(
        self, request: ListDatasetsRequest, context: Any
    ) -> ListDatasetsResponse:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        page = await self._datasets.list(
            request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            after=request.after,
            order_by=request.order_by,
            source_file=request.source_file,
            show_deleted=request.show_deleted,
        )
        return ListDatasetsResponse(datasets=page.items, next_page_token=page.next_page_token)

    async def DeleteDataset(self, request: DeleteDatasetRequest, context: Any) -> Dataset:
        """See the proto."""
        parse(request.name, PATTERN)
        return await self._datasets.delete(request.name)

    async def PreviewDataset(
        self, request: PreviewDatasetRequest, context: Any
    ) -> PreviewDatasetResponse:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        return await self._previews.preview(request.parent, request.dataset, request.page_size)

    async def GetQualityReport(
        self, request: GetQualityReportRequest, context: Any
    ) -> QualityReport:
        """See the proto."""
        parse(request.name, f"{PATTERN}/qualityReport")
        with _named(request.name) as dataset:
            report = await self._datasets.report(dataset)
        report.name = request.name
        return report

    async def GetManifest(self, request: GetManifestRequest, context: Any) -> Manifest:
        """See the proto."""
        parse(request.name, f"{PATTERN}/manifest")
        with _named(request.name) as dataset:
            manifest = await self._datasets.manifest(dataset)
        return Manifest(name=request.name, json=manifest)

    async def ListDatasetRows(
        self, request: ListDatasetRowsRequest, context: Any
    ) -> ListDatasetRowsResponse:
        """See the proto."""
        parse(request.parent, PATTERN, field="parent")
        rows, token = await self._datasets.rows(
            request.parent, request.page_size, request.page_token, request.source_file
        )
        return ListDatasetRowsResponse(rows=rows, next_page_token=token)


@contextmanager
def _named(name: str) -> Iterator[str]:
    """Yield the dataset that a singleton belongs to; without it, what was asked for is absent."""
    try:
        yield name.rpartition("/")[0]
    except NotFound as error:
        raise not_found(name) from error
