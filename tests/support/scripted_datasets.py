"""The dataset service as the trainer knows it: files in a real store, datasets only asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from luthier.dataset.v1 import dataset_service_pb2, file_service_pb2
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import CreateDatasetRequest
from luthier.dataset.v1.dataset_service_pb2_grpc import (
    DatasetServiceServicer,
    add_DatasetServiceServicer_to_server,
)
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2_grpc import (
    FileServiceServicer,
    add_FileServiceServicer_to_server,
)
from luthier_common.errors import PlatformError, not_found
from luthier_common.identity import current_identity
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.records.memory import already_exists

from tests.support.grpc_server import serving


class ScriptedDatasets:
    """What the service holds, what it was asked for, and what it shall fail with."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.address = ""
        self.files: dict[str, File] = {}
        self.datasets: dict[str, Dataset] = {}
        self.asked: list[CreateDatasetRequest] = []
        self.callers: list[str] = []
        self.failures: list[PlatformError] = []
        """Of the next datasets that are asked for, the first of them first."""

    async def add(
        self,
        data: bytes,
        name: str = "rows.jsonl",
        *,
        purpose: File.Purpose = File.Purpose.FINE_TUNE,
        dataset: str = "",
        project: str = "acme",
    ) -> File:
        """Store a file."""
        file = File(
            name=f"projects/{project}/files/file-{len(self.files) + 1}",
            display_name=name,
            purpose=purpose,
            dataset=dataset,
        )
        return await self.store(file, data)

    async def store(self, file: File, data: bytes) -> File:
        """Store a file under its name."""
        blob = await self.blobs.put_bytes(project_of(file.name), data)
        file.sha256, file.size_bytes = blob.sha256, blob.size
        self.files[file.name] = file
        return file

    async def content(self, name: str) -> bytes:
        """Return a file's bytes."""
        return await self.blobs.read(project_of(name), self.files[name].sha256)


class _Files(FileServiceServicer):
    def __init__(self, service: ScriptedDatasets) -> None:
        self._service = service

    async def CreateFile(self, requests: AsyncIterator[Any], context: Any) -> File:
        first = await anext(requests)
        data = b"".join([request.chunk async for request in requests])
        first.file.name = f"{first.parent}/files/{first.file_id}"
        return await self._service.store(first.file, data)

    async def GetFile(self, request: Any, context: Any) -> File:
        if request.name not in self._service.files:
            raise not_found(request.name)
        return self._service.files[request.name]


class _Datasets(DatasetServiceServicer):
    def __init__(self, service: ScriptedDatasets) -> None:
        self._service = service

    async def CreateDataset(self, request: CreateDatasetRequest, context: Any) -> Dataset:
        self._service.asked.append(request)
        self._service.callers.append(current_identity().subject)
        if self._service.failures:
            raise self._service.failures.pop(0)
        name = f"{request.parent}/datasets/{request.dataset_id}"
        new = Dataset(name=name, state=Dataset.State.BUILDING)
        dataset = self._service.datasets.setdefault(name, new)
        if dataset.HasField("delete_time"):
            raise already_exists(name)
        return dataset


@asynccontextmanager
async def scripted_datasets(blobs: Blobs) -> AsyncIterator[ScriptedDatasets]:
    """Serve it on a free port."""
    service = ScriptedDatasets(blobs)
    files = file_service_pb2.DESCRIPTOR.services_by_name["FileService"]
    datasets = dataset_service_pb2.DESCRIPTOR.services_by_name["DatasetService"]
    async with serving(
        # The trainer calls no other methods.
        (_Files(service), add_FileServiceServicer_to_server, files),  # type: ignore[abstract]
        (_Datasets(service), add_DatasetServiceServicer_to_server, datasets),  # type: ignore[abstract]
    ) as server:
        service.address = server.address
        yield service
