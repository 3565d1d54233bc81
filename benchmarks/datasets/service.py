"""The dataset service as a process of its own, with what it needs around it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceStub
from luthier.dataset.v1.file_service_pb2_grpc import FileServiceStub
from luthier.dataset.v1.upload_service_pb2_grpc import UploadServiceStub
from luthier_common.children import spawn
from luthier_common.identity import IdentitySigner
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.rpc.client import connect
from luthier_inference.importer import import_base_model
from luthier_standalone.ports import HOST, allocate

from tests.support.dataset_service import DatasetClient
from tests.support.grpc_server import SECRET, caller, serving
from tests.support.nats_server import nats_server
from tests.support.scripted_inference import BASE_MODEL, DIGEST, ScriptedInference

_START_SECONDS = 60.0


@dataclass(frozen=True)
class Service:
    """A running service."""

    pid: int
    client: DatasetClient


@asynccontextmanager
async def dataset_process(folder: Path, python: str, model: Path) -> AsyncIterator[Service]:
    """Run `python -m luthier_dataset` on a directory store and a real nats-server.

    Its base model, BASE_MODEL, has the files of `model`; asked for text, it fails.
    """
    objects = folder / "objects"
    base = await import_base_model(model, Blobs(DirectoryObjects(objects)), "library")
    base.name, base.digest = BASE_MODEL, DIGEST
    scripted = ScriptedInference(base, _silent)
    (port,) = allocate(1)
    address = f"{HOST}:{port}"
    async with nats_server(folder) as nats, serving(*scripted.services()) as inference:
        env = {
            **os.environ,
            "LUTHIER_GRPC_ADDRESS": address,
            "LUTHIER_NATS_URL": nats.url,
            "LUTHIER_OBJECTS_URL": objects.as_uri(),
            "LUTHIER_IDENTITY_SECRET": SECRET,
            "LUTHIER_INFERENCE_ADDRESS": inference.address,
            "LUTHIER_WORK_DIR": str(folder / "work"),
            "LUTHIER_LOG_LEVEL": "WARNING",
        }
        async with await spawn(python, "-m", "luthier_dataset", env=env) as process:
            await _listening(address)
            async with connect(address, signer=IdentitySigner(SECRET), timeout=60.0) as channel:
                mine = channel.with_identity(caller())
                client = DatasetClient(
                    FileServiceStub(mine), DatasetServiceStub(mine), UploadServiceStub(mine)
                )
                yield Service(process.pid, client)


async def _listening(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), _START_SECONDS)


def _silent(prompt: str) -> str:
    raise AssertionError("the recipe of this benchmark asks no model")
