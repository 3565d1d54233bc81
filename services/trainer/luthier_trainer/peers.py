"""The services that the trainer asks: for files and base models, and to publish results."""

from __future__ import annotations

from collections.abc import AsyncIterator

from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import CreateDatasetRequest
from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceStub
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import CreateFileRequest, GetFileRequest
from luthier.dataset.v1.file_service_pb2_grpc import FileServiceStub
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import CreateAdapterRequest, GetAdapterRequest
from luthier.inference.v1.adapter_service_pb2_grpc import AdapterServiceStub
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.base_model_service_pb2 import (
    CreateBaseModelRequest,
    GetBaseModelRequest,
)
from luthier.inference.v1.base_model_service_pb2_grpc import BaseModelServiceStub
from luthier_common.errors import Aborted, DeadlineExceeded, ResourceExhausted, Unavailable
from luthier_common.identity import Identity, service_identity
from luthier_common.names import id_of, parent_of, project_of
from luthier_common.rpc.client import Channel

TRANSIENT = (Unavailable, DeadlineExceeded, ResourceExhausted, Aborted)
"""Errors that waiting cures."""
_PUBLISH_SECONDS = 120.0  # every byte is verified
_PUBLISH_MODEL_SECONDS = 3600.0  # so it is of whole models
_DATASET_SECONDS = 120.0  # the file may be read


class Peers:
    """Calls in the name of a project; what belongs to another is NotFound there."""

    def __init__(self, datasets: Channel, inference: Channel) -> None:
        self._datasets = datasets
        self._inference = inference

    async def file(self, parent: str, name: str) -> File:
        """Return a file of the project `parent`; NotFound."""
        stub = FileServiceStub(self._datasets.with_identity(_as(parent)))
        return await stub.GetFile(GetFileRequest(name=name))

    async def create_file(self, file: File, chunks: AsyncIterator[bytes]) -> File:
        """Store a file under its name; the same one again changes nothing."""
        parent = parent_of(file.name)

        async def requests() -> AsyncIterator[CreateFileRequest]:
            yield CreateFileRequest(parent=parent, file=file, file_id=id_of(file.name))
            async for chunk in chunks:
                yield CreateFileRequest(chunk=chunk)
            yield CreateFileRequest(last=True)

        stub = FileServiceStub(self._datasets.with_identity(_as(parent)))
        return await stub.CreateFile(requests(), timeout=_PUBLISH_SECONDS)

    async def create_dataset(self, parent: str, draft: Dataset, dataset_id: str) -> Dataset:
        """Ask for a dataset under that id; the same one again changes nothing."""
        stub = DatasetServiceStub(self._datasets.with_identity(_as(parent)))
        request = CreateDatasetRequest(
            parent=parent, dataset=draft, dataset_id=dataset_id, request_id=dataset_id
        )
        return await stub.CreateDataset(request, timeout=_DATASET_SECONDS)

    async def base_model(self, parent: str, name: str) -> BaseModel:
        """Return a base model of the project `parent` or of the library; NotFound."""
        stub = BaseModelServiceStub(self._inference.with_identity(_as(parent)))
        return await stub.GetBaseModel(GetBaseModelRequest(name=name))

    async def create_base_model(self, model: BaseModel) -> BaseModel:
        """Register a model under its name; the same one again changes nothing."""
        parent = parent_of(model.name)
        stub = BaseModelServiceStub(self._inference.with_identity(_as(parent)))
        request = CreateBaseModelRequest(
            parent=parent, base_model=model, base_model_id=id_of(model.name)
        )
        return await stub.CreateBaseModel(request, timeout=_PUBLISH_MODEL_SECONDS)

    async def adapter(self, parent: str, name: str) -> Adapter:
        """Return an adapter of the project `parent`; NotFound."""
        stub = AdapterServiceStub(self._inference.with_identity(_as(parent)))
        return await stub.GetAdapter(GetAdapterRequest(name=name))

    async def create_adapter(self, adapter: Adapter) -> Adapter:
        """Publish an adapter under its name; the same one again changes nothing."""
        parent = parent_of(adapter.name)
        stub = AdapterServiceStub(self._inference.with_identity(_as(parent)))
        request = CreateAdapterRequest(
            parent=parent, adapter=adapter, adapter_id=id_of(adapter.name)
        )
        return await stub.CreateAdapter(request, timeout=_PUBLISH_SECONDS)


def _as(parent: str) -> Identity:
    return service_identity(project_of(parent), "trainer")
