"""The services behind the gateway, as typed stubs for the REST side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceStub
from luthier.dataset.v1.file_service_pb2_grpc import FileServiceStub
from luthier.dataset.v1.upload_service_pb2_grpc import UploadServiceStub
from luthier.inference.v1.adapter_service_pb2_grpc import AdapterServiceStub
from luthier.inference.v1.base_model_service_pb2_grpc import BaseModelServiceStub
from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceStub
from luthier.trainer.v1.training_job_service_pb2_grpc import TrainingJobServiceStub
from luthier_common.identity import current_identity
from luthier_common.rpc.client import Channel

if TYPE_CHECKING:  # these classes exist in the type stubs only
    from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceAsyncStub
    from luthier.dataset.v1.file_service_pb2_grpc import FileServiceAsyncStub
    from luthier.dataset.v1.upload_service_pb2_grpc import UploadServiceAsyncStub
    from luthier.inference.v1.adapter_service_pb2_grpc import AdapterServiceAsyncStub
    from luthier.inference.v1.base_model_service_pb2_grpc import BaseModelServiceAsyncStub
    from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub
    from luthier.trainer.v1.training_job_service_pb2_grpc import TrainingJobServiceAsyncStub


@dataclass(frozen=True)
class Owners:
    """Every call goes out in the name of the caller being served."""

    files: FileServiceAsyncStub
    uploads: UploadServiceAsyncStub
    datasets: DatasetServiceAsyncStub
    jobs: TrainingJobServiceAsyncStub
    base_models: BaseModelServiceAsyncStub
    adapters: AdapterServiceAsyncStub
    generation: GenerationServiceAsyncStub

    @classmethod
    def behind(cls, *, dataset: Channel, trainer: Channel, inference: Channel) -> Owners:
        """Return the stubs of the services at the other ends of three channels."""
        return cls(
            files=FileServiceStub(dataset),
            uploads=UploadServiceStub(dataset),
            datasets=DatasetServiceStub(dataset),
            jobs=TrainingJobServiceStub(trainer),
            base_models=BaseModelServiceStub(inference),
            adapters=AdapterServiceStub(inference),
            generation=GenerationServiceStub(inference),
        )


def caller_project() -> str:
    """Return the id of the project in whose name the current request acts."""
    return current_identity().project


def caller_parent() -> str:
    """Return the resource name of that project."""
    return f"projects/{caller_project()}"
