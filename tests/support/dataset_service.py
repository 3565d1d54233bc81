"""The dataset service as its composition root builds it, in this process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.dataset.v1.dataset_service_pb2 import (
    GetManifestRequest,
    GetQualityReportRequest,
    Manifest,
)
from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceStub
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import (
    CreateFileRequest,
    DownloadFileRequest,
    ListFilesRequest,
)
from luthier.dataset.v1.file_service_pb2_grpc import FileServiceStub
from luthier.dataset.v1.quality_pb2 import QualityReport
from luthier.dataset.v1.upload_pb2 import Upload, UploadPart
from luthier.dataset.v1.upload_service_pb2 import (
    AddUploadPartRequest,
    CompleteUploadRequest,
    CreateUploadRequest,
)
from luthier.dataset.v1.upload_service_pb2_grpc import UploadServiceStub
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
from tests.support.s3_server import S3Server

if TYPE_CHECKING:
    from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceAsyncStub
    from luthier.dataset.v1.file_service_pb2_grpc import FileServiceAsyncStub
    from luthier.dataset.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

NOWHERE = "127.0.0.1:1"
"""An address at which nobody serves."""


@dataclass(frozen=True)
class DatasetClient:
    """Calls the service as one identity."""

    files: FileServiceAsyncStub
    datasets: DatasetServiceAsyncStub
    uploads: UploadServiceAsyncStub

    async def report(self, dataset: str) -> QualityReport:
        """Return a dataset's quality report."""
        request = GetQualityReportRequest(name=f"{dataset}/qualityReport")
        return await self.datasets.GetQualityReport(request)

    async def manifest(self, dataset: str) -> Manifest:
        """Return a dataset's manifest."""
        return await self.datasets.GetManifest(GetManifestRequest(name=f"{dataset}/manifest"))

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
            yield CreateFileRequest(last=True)

        return await self.files.CreateFile(requests())

    async def begin(
        self,
        size: int,
        name: str = "notes.md",
        *,
        purpose: File.Purpose = File.Purpose.USER_DATA,
        direct: bool = False,
        parent: str = "projects/acme",
    ) -> Upload:
        """Begin an upload."""
        upload = Upload(display_name=name, purpose=purpose, size_bytes=size, direct=direct)
        return await self.uploads.CreateUpload(CreateUploadRequest(parent=parent, upload=upload))

    async def add_part(self, upload: str, data: bytes, *, piece: int = 1000) -> UploadPart:
        """Store a part."""

        async def requests() -> AsyncIterator[AddUploadPartRequest]:
            yield AddUploadPartRequest(parent=upload)
            for start in range(0, len(data), piece):
                yield AddUploadPartRequest(chunk=data[start : start + piece])
            yield AddUploadPartRequest(last=True)

        return await self.uploads.AddUploadPart(requests())

    async def complete(
        self, upload: str, parts: Sequence[UploadPart] = (), *, md5: str = "", sha256: str = ""
    ) -> Upload:
        """Make a file of an upload."""
        names = [part.name for part in parts]
        request = CompleteUploadRequest(name=upload, parts=names, md5=md5, sha256=sha256)
        return await self.uploads.CompleteUpload(request)

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
        return client_of(self.channel.with_identity(identity or caller()))


def client_of(channel: Channel) -> DatasetClient:
    """Return a client of the service behind a channel."""
    return DatasetClient(
        FileServiceStub(channel), DatasetServiceStub(channel), UploadServiceStub(channel)
    )


def store(folder: Path) -> Blobs:
    """Return the blobs of a service that runs with `folder`."""
    return Blobs(DirectoryObjects(folder / "objects"))


def objects_url(folder: Path, s3: S3Server | None) -> str:
    """Return where a service that runs with `folder` keeps its objects."""
    if s3 is None:
        return (folder / "objects").as_uri()
    return s3.url(f"luthier-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}")


@asynccontextmanager
async def dataset_service(
    folder: Path,
    nats_url: str,
    inference_address: str = NOWHERE,
    *,
    max_file_bytes: int = 2**20,
    s3: S3Server | None = None,
    public_url: str = "",
    build_workers: int = 2,
) -> AsyncIterator[DatasetServer]:
    """Run the service; run it again with the same folder and NATS to restart it.

    Objects are kept in the folder, or in a bucket of its own in `s3`.
    """
    settings = DatasetSettings(
        nats_url=nats_url,
        objects_url=objects_url(folder, s3),
        objects_access_key=s3.access_key if s3 else "",
        objects_secret_key=SecretStr(s3.secret_key if s3 else ""),
        objects_public_url=public_url,
        identity_secret=SecretStr(SECRET),
        inference_address=inference_address,
        work_dir=folder / "work",
        max_file_bytes=max_file_bytes,
        build_workers=build_workers,
        drain_seconds=0,
    )
    async with Lifespan() as lifespan:
        server = await build(settings, lifespan)
        async with connect(server.address, signer=IdentitySigner(SECRET)) as channel:
            yield DatasetServer(server.address, channel, lifespan.registry)
