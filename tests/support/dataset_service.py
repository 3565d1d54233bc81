"""The dataset service as its composition root builds it, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceStub
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import (
    CreateFileRequest,
    DownloadFileRequest,
    ListFilesRequest,
)
from luthier.dataset.v1.file_service_pb2_grpc import FileServiceStub
from luthier_common.identity import Identity, IdentitySigner
from luthier_common.lifespan import Lifespan
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.rpc.client import Channel, connect
from luthier_dataset.app import build
from luthier_dataset.settings import DatasetSettings
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from tests.support.grpc_server import SECRET, caller

if TYPE_CHECKING:
    from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceAsyncStub
    from luthier.dataset.v1.file_service_pb2_grpc import FileServiceAsyncStub

NOWHERE = "127.0.0.1:1"
"""An address at which nobody serves."""


@dataclass(frozen=True)
class DatasetClient:
    """Calls the service as one identity."""

    files: FileServiceAsyncStub
    datasets: DatasetServiceAsyncStub

    async def upload(
        self,
        data: bytes,
        name: str = "notes.md",
        *,
        purpose: File.Purpose = File.Purpose.USER_DATA,
        file_id: str = "",
        parent: str = "projects/acme",
        piece: int = 1000,
    ) -> File:
        """Store a file."""

        async def requests() -> AsyncIterator[CreateFileRequest]:
            file = File(display_name=name, purpose=purpose)
            yield CreateFileRequest(parent=parent, file=file, file_id=file_id)
            for start in range(0, len(data), piece):
                yield CreateFileRequest(chunk=data[start : start + piece])

        return await self.files.CreateFile(requests())

    async def download(self, name: str) -> bytes:
        """Return a file's bytes."""
        chunks = self.files.DownloadFile(DownloadFileRequest(name=name))
        return b"".join([response.chunk async for response in chunks])

    async def file_names(self, parent: str = "projects/acme") -> list[str]:
        """Return the names of all files."""
        return [f.name for f in (await self.files.ListFiles(ListFilesRequest(parent=parent))).files]


@dataclass(frozen=True)
class DatasetServer:
    """A running service."""

    address: str
    channel: Channel
    registry: CollectorRegistry

    def client(self, identity: Identity | None = None) -> DatasetClient:
        """Return a client that calls as `identity`."""
        channel = self.channel.with_identity(identity or caller())
        return DatasetClient(FileServiceStub(channel), DatasetServiceStub(channel))


def store(folder: Path) -> Blobs:
    """Return the blobs of a service that runs with `folder`."""
    return Blobs(DirectoryObjects(folder / "objects"))


@asynccontextmanager
async def dataset_service(
    folder: Path, nats_url: str, inference_address: str = NOWHERE, *, max_file_bytes: int = 2**20
) -> AsyncIterator[DatasetServer]:
    """Run the service; run it again with the same folder and NATS to restart it."""
    settings = DatasetSettings(
        nats_url=nats_url,
        objects_url=(folder / "objects").as_uri(),
        identity_secret=SecretStr(SECRET),
        inference_address=inference_address,
        work_dir=folder / "work",
        max_file_bytes=max_file_bytes,
        drain_seconds=0,
    )
    async with Lifespan() as lifespan:
        server = await build(settings, lifespan)
        async with connect(server.address, signer=IdentitySigner(SECRET)) as channel:
            yield DatasetServer(server.address, channel, lifespan.registry)
