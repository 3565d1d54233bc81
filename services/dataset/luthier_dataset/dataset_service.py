"""The gRPC side of datasets: converts, calls, converts."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    DeleteDatasetRequest,
    GetDatasetRequest,
    ListDatasetRowsRequest,
    ListDatasetRowsResponse,
    ListDatasetsRequest,
    ListDatasetsResponse,
)
from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceServicer
from luthier_common.names import parse

from luthier_dataset.datasets import PATTERN, Datasets


class DatasetService(DatasetServiceServicer):
    """Serves `luthier.dataset.v1.DatasetService`."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

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
        return await self._datasets.get(request.name)

    async def ListDatasets(
        self, request: ListDatasetsRequest, context: Any
    ) -> ListDatasetsResponse:
        """See the proto."""
        parse(request.parent, "projects/{project}", field="parent")
        page = self._datasets.list(
            request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            after=request.after,
            order_by=request.order_by,
        )
        return ListDatasetsResponse(datasets=page.items, next_page_token=page.next_page_token)

    async def DeleteDataset(self, request: DeleteDatasetRequest, context: Any) -> Empty:
        """See the proto."""
        parse(request.name, PATTERN)
        await self._datasets.delete(request.name)
        return Empty()

    async def ListDatasetRows(
        self, request: ListDatasetRowsRequest, context: Any
    ) -> ListDatasetRowsResponse:
        """See the proto."""
        parse(request.parent, PATTERN, field="parent")
        rows, token = await self._datasets.rows(
            request.parent, request.page_size, request.page_token
        )
        return ListDatasetRowsResponse(rows=rows, next_page_token=token)
