"""The inference service on a real NATS server and a directory store; engines are processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2_grpc import AdapterServiceStub
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier.inference.v1.base_model_service_pb2 import CreateBaseModelRequest
from luthier.inference.v1.base_model_service_pb2_grpc import BaseModelServiceStub
from luthier.inference.v1.generation_pb2 import ChatMessage, Finish, SamplingParameters
from luthier.inference.v1.generation_service_pb2 import StreamChatRequest
from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceStub
from luthier_common.identity import Identity, IdentitySigner, Role
from luthier_common.lifespan import Lifespan
from luthier_common.nats_process import NatsProcess
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.rpc.client import Channel, connect
from luthier_inference.app import build
from luthier_inference.importer import import_base_model
from luthier_inference.settings import InferenceSettings, Precision

from tests.support.nats_server import nats_server

SECRET = "a secret that only tests know, 32+"


class Inference:
    """A running service, and the store behind it."""

    def __init__(
        self, folder: Path, lifespan: Lifespan, channel: Channel, nats: NatsProcess, address: str
    ) -> None:
        self.objects = folder / "objects"
        self.work = folder / "work"
        self.blobs = Blobs(DirectoryObjects(self.objects))
        self.lifespan = lifespan
        self.nats = nats
        self.nats_url = nats.url
        self.address = address
        self._channel = channel

    def channel(self, project: str = "acme", role: Role = Role.SERVICE) -> Channel:
        """Return a channel that calls as somebody of a project."""
        return self._channel.with_identity(Identity(project, role, "test"))

    def base_models(self, project: str = "acme", role: Role = Role.SERVICE):  # type: ignore[no-untyped-def]
        return BaseModelServiceStub(self.channel(project, role))

    def adapters(self, project: str = "acme", role: Role = Role.SERVICE):  # type: ignore[no-untyped-def]
        return AdapterServiceStub(self.channel(project, role))

    async def import_base(
        self, path: Path, project: str = "library", name: str = "tiny"
    ) -> BaseModel:
        """Import a snapshot as the command line does."""
        base = await import_base_model(path, self.blobs, project)
        request = CreateBaseModelRequest(
            parent=f"projects/{project}", base_model=base, base_model_id=name
        )
        created: BaseModel = await self.base_models(project).CreateBaseModel(request)
        return created

    async def adapter(self, path: Path, base: BaseModel, project: str = "acme") -> Adapter:
        """Upload a folder that peft saved and return the adapter to create."""
        return Adapter(
            base_model=base.name,
            base_model_digest=base.digest,
            tokenizer_digest=base.tokenizer_digest,
            dataset_digest="d" * 64,
            training_job=f"projects/{project}/trainingJobs/ftjob-1",
            files=[await self.upload(entry, project) for entry in sorted(path.iterdir())],
        )

    async def upload(self, path: Path, project: str) -> ModelFile:
        """Store a file and return what names it."""
        blob = await self.blobs.put_file(project, path)
        return ModelFile(path=path.name, sha256=blob.sha256, size_bytes=blob.size)

    def flip_byte(self, sha256: str, position: int = -1) -> None:
        """Damage a stored blob behind the service's back."""
        (path,) = (path for path in self.objects.rglob(f"*{sha256}*") if path.is_file())
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.chmod(0o600)
        path.write_bytes(bytes(data))

    async def chat(
        self, model: str, text: str = "hi", project: str = "acme", **sampling: object
    ) -> Answer:
        """Ask and return the whole answer."""
        answer = Answer()
        parameters = SamplingParameters(**{"temperature": 0.0, "max_tokens": 16, **sampling})  # type: ignore[arg-type]
        request = StreamChatRequest(
            parent=f"projects/{project}",
            model=model,
            messages=[ChatMessage(role="user", content=text)],
            sampling=parameters,
        )
        stub = GenerationServiceStub(self.channel(project))
        async for response in stub.StreamChat(request, timeout=120):
            answer.text += response.text
            answer.pieces += 1
            answer.digests.add((response.base_model_digest, response.adapter_digest))
            if response.HasField("finish"):
                answer.finish.CopyFrom(response.finish)
        return answer


class Answer:
    """A collected answer."""

    def __init__(self) -> None:
        self.text = ""
        self.pieces = 0
        self.digests: set[tuple[str, str]] = set()
        self.finish = Finish()


@asynccontextmanager
async def inference_service(
    folder: Path,
    *,
    precision: Precision = "fp32",
    preload: tuple[str, ...] = (),
    max_engines: int = 2,
    drain_seconds: float = 0.0,
) -> AsyncIterator[Inference]:
    """Run the service on fresh records."""
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(nats_server(folder))
        settings = InferenceSettings(
            nats_url=nats.url,
            objects_url=(folder / "objects").as_uri(),
            identity_secret=SECRET,  # type: ignore[arg-type]
            work_dir=folder / "work",
            engine_precision=precision,
            preload_models=preload,
            max_engines=max_engines,
            drain_seconds=drain_seconds,
        )
        lifespan = await stack.enter_async_context(Lifespan())
        server = await build(settings, lifespan)
        signer = IdentitySigner(SECRET)
        channel = await stack.enter_async_context(connect(server.address, signer=signer))
        yield Inference(folder, lifespan, channel, nats, server.address)
