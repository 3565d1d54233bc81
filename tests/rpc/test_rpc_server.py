"""The server and the client over a real connection, with the files API as the example."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any

import grpc
import jwt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from luthier.dataset.v1 import file_pb2, file_service_pb2
from luthier.dataset.v1.file_service_pb2_grpc import (
    FileServiceServicer,
    FileServiceStub,
    add_FileServiceServicer_to_server,
)
from luthier_common import errors
from luthier_common.errors import PlatformError, not_found
from luthier_common.identity import IDENTITY_HEADER, Identity, Role, current_identity, use_identity
from luthier_common.logs import request_id
from luthier_common.rpc.status import from_rpc_error
from prometheus_client import CollectorRegistry

from tests.support.grpc_server import SECRET, Serving, caller, serving

GetFile = file_service_pb2.GetFileRequest
Download = file_service_pb2.DownloadFileRequest
Create = file_service_pb2.CreateFileRequest
OWN = "projects/acme/files/f1"


class Files(FileServiceServicer):
    """Answers with what it saw; `failure` makes it fail, `gate` holds downloads."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.calls = 0

    async def GetFile(self, request: Any, context: Any) -> file_pb2.File:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        if request.name.endswith("/absent"):
            raise not_found(request.name)
        seen = current_identity()
        return file_pb2.File(name=request.name, display_name=f"{seen.subject} {request_id.get()}")

    async def ListFiles(self, request: Any, context: Any) -> file_service_pb2.ListFilesResponse:
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return file_service_pb2.ListFilesResponse()

    async def DeleteFile(self, request: Any, context: Any) -> file_pb2.File:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return file_pb2.File()

    async def CreateFile(self, request_iterator: Any, context: Any) -> file_pb2.File:
        size = 0
        async for request in request_iterator:
            size += len(request.chunk)
            if self.failure is not None:
                raise self.failure
        return file_pb2.File(name=OWN, size_bytes=size)

    async def DownloadFile(
        self, request: Any, context: Any
    ) -> AsyncIterator[file_service_pb2.DownloadFileResponse]:
        yield file_service_pb2.DownloadFileResponse(chunk=b"one")
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.failure is not None:
            raise self.failure
        yield file_service_pb2.DownloadFileResponse(chunk=b"two")


DESCRIPTOR = file_service_pb2.DESCRIPTOR.services_by_name["FileService"]


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
async def server(files: Files) -> AsyncIterator[Serving]:
    async with serving((files, add_FileServiceServicer_to_server, DESCRIPTOR)) as running:
        yield running


async def upload(*chunks: bytes, parent: str = "projects/acme") -> AsyncIterator[Create]:
    yield Create(parent=parent)
    for chunk in chunks:
        yield Create(chunk=chunk)


def told(error: PlatformError) -> dict[str, Any]:
    return {"class": type(error), **vars(error)}


def tree(root: type[PlatformError]) -> list[type[PlatformError]]:
    return [kind for child in root.__subclasses__() for kind in (child, *tree(child))]


@pytest.mark.parametrize("kind", tree(PlatformError), ids=lambda kind: kind.__name__)
async def test_every_error_arrives_as_it_was_raised(
    kind: type[PlatformError], server: Serving, files: Files
) -> None:
    files.failure = kind("wörds\nin lines", reason="WHY", field="a.b", metadata={"k": "v"})
    files.gate.set()
    stub = FileServiceStub(server.channel())
    with pytest.raises(PlatformError) as unary:
        await stub.DeleteFile(file_service_pb2.DeleteFileRequest(name=OWN))
    with pytest.raises(PlatformError) as up:
        await stub.CreateFile(upload(b"x"))
    with pytest.raises(PlatformError) as down:
        async for _ in stub.DownloadFile(Download(name=OWN)):
            pass
    for caught in (unary, up, down):
        assert told(caught.value) == told(files.failure)


async def test_a_defect_is_told_without_its_text(server: Serving, files: Files) -> None:
    files.failure = RuntimeError("the password is hunter2")
    with pytest.raises(errors.Internal) as caught:
        await FileServiceStub(server.channel()).GetFile(GetFile(name=OWN))
    assert caught.value.message == "internal error"


async def test_a_huge_name_gets_its_answer(server: Serving) -> None:
    name = "projects/other/files/" + "ü" * 1_000_000
    with pytest.raises(errors.NotFound):
        await FileServiceStub(server.channel()).GetFile(GetFile(name=name))


async def raw_failure(server: Serving, identity: Identity, name: str) -> tuple[object, ...]:
    token = server.signer.sign(identity)
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await FileServiceStub(channel).GetFile(
                GetFile(name=name), metadata=((IDENTITY_HEADER, token),)
            )
    error = caught.value
    return error.code(), error.details(), tuple(error.trailing_metadata())


async def test_foreign_is_absent_to_the_byte(server: Serving) -> None:
    name = "projects/acme/files/absent"
    absent = await raw_failure(server, caller("acme"), name)
    foreign = await raw_failure(server, caller("other"), name)
    assert absent == foreign
    assert absent[0] is grpc.StatusCode.NOT_FOUND


async def test_streams_are_admitted_by_their_first_message(server: Serving) -> None:
    stub = FileServiceStub(server.channel(caller("other")))
    with pytest.raises(errors.NotFound) as up:
        await stub.CreateFile(upload(b"x"))
    assert up.value.message == not_found("projects/acme").message
    with pytest.raises(errors.NotFound):
        async for _ in stub.DownloadFile(Download(name=OWN)):
            pass
    with pytest.raises(errors.InvalidArgument) as empty:
        await stub.CreateFile(aiter_of())
    assert empty.value.reason == "STREAM_EMPTY"


async def aiter_of(*requests: Create) -> AsyncIterator[Create]:
    for request in requests:
        yield request


async def test_roles_are_enforced(server: Serving) -> None:
    stub = FileServiceStub(server.channel(caller(role=Role.VIEWER)))
    await stub.GetFile(GetFile(name=OWN))
    with pytest.raises(errors.PermissionDenied):
        await stub.DeleteFile(file_service_pb2.DeleteFileRequest(name=OWN))


async def test_a_method_without_policy_is_refused() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        raise AssertionError("must not run")

    def add(servicer: object, server: grpc.aio.Server) -> None:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
        handlers = grpc.method_handlers_generic_handler("test.v1.Open", {"Get": handler})
        server.add_generic_rpc_handlers((handlers,))

    async with serving((object(), add, DESCRIPTOR)) as server:
        call: Any = server.channel(caller(role=Role.SERVICE)).unary_unary("/test.v1.Open/Get")
        with pytest.raises(errors.PermissionDenied) as caught:
            await call(b"")
    assert caught.value.reason == "METHOD_CLOSED"


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "garbage",
        jwt.encode({"role": "SERVICE"}, "", "none"),
        jwt.encode({"role": "SERVICE"}, "y" * 32, "HS256"),
        jwt.encode({"exp": 1}, SECRET, "HS256"),
    ],
    ids=["missing", "empty", "garbage", "alg none", "wrong secret", "expired"],
)
async def test_without_a_sound_token_nobody_enters(
    token: str | None, server: Serving, files: Files
) -> None:
    metadata = () if token is None else ((IDENTITY_HEADER, token),)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = FileServiceStub(channel)
        calls: list[Awaitable[file_pb2.File]] = [
            stub.GetFile(GetFile(name=OWN), metadata=metadata),
            stub.CreateFile(upload(), metadata=metadata),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert type(from_rpc_error(caught.value)) is errors.Unauthenticated
    assert files.calls == 0


async def test_identity_and_request_id_travel(server: Serving) -> None:
    channel = server.channel()
    token = request_id.set("r-42")
    bound = await FileServiceStub(channel).GetFile(GetFile(name=OWN))
    request_id.reset(token)
    assert bound.display_name == "apiKeys/acme r-42"
    stub = FileServiceStub(channel.with_identity(Identity("acme", Role.SERVICE, "services/x")))
    other = await stub.GetFile(GetFile(name=OWN))
    assert other.display_name.startswith("services/x ")


async def test_an_unbound_channel_forwards_the_caller_or_refuses(server: Serving) -> None:
    from luthier_common.rpc.client import connect

    async with connect(server.address, signer=server.signer) as channel:
        stub = FileServiceStub(channel)
        with use_identity(Identity("acme", Role.VIEWER, "somebody")):
            answer = await stub.GetFile(GetFile(name=OWN))
        assert answer.display_name.startswith("somebody ")
        with pytest.raises(errors.Unauthenticated):
            await stub.GetFile(GetFile(name=OWN))


async def test_uploads_and_downloads(server: Serving, files: Files) -> None:
    files.gate.set()
    stub = FileServiceStub(server.channel())
    stored = await stub.CreateFile(upload(b"x" * 1_000_000, b"y" * 5))
    assert stored.size_bytes == 1_000_005
    chunks = [message.chunk async for message in stub.DownloadFile(Download(name=OWN))]
    assert chunks == [b"one", b"two"]


async def test_the_cause_of_a_broken_upload_is_kept(server: Serving) -> None:
    async def broken() -> AsyncIterator[Create]:
        yield Create(parent="projects/acme")
        raise errors.DataLoss("bad bytes", reason="DIGEST")

    with pytest.raises(errors.DataLoss, match="bad bytes"):
        await FileServiceStub(server.channel()).CreateFile(broken())


async def test_leaving_a_download_cancels_the_server(server: Serving, files: Files) -> None:
    stub = FileServiceStub(server.channel())
    stream: Any = stub.DownloadFile(Download(name=OWN))
    async with aclosing(stream):
        assert (await anext(stream)).chunk == b"one"
        await files.entered.wait()
    await asyncio.wait_for(files.cancelled.wait(), 5)


async def test_a_deadline_ends_the_call_on_both_sides(server: Serving, files: Files) -> None:
    stub = FileServiceStub(server.channel(timeout=0.2))
    with pytest.raises(errors.DeadlineExceeded):
        await stub.ListFiles(file_service_pb2.ListFilesRequest(parent="projects/acme"))
    await asyncio.wait_for(files.cancelled.wait(), 5)


async def test_calls_are_counted(server: Serving, files: Files) -> None:
    stub = FileServiceStub(server.channel())
    await stub.GetFile(GetFile(name=OWN))
    with pytest.raises(errors.NotFound):
        await stub.GetFile(GetFile(name="projects/acme/files/absent"))
    assert counted(server.registry, "GetFile", "OK") == 1
    assert counted(server.registry, "GetFile", "NOT_FOUND") == 1
    labels = {"method": "/luthier.dataset.v1.FileService/GetFile"}
    assert server.registry.get_sample_value("luthier_rpc_in_flight", labels) == 0
    assert server.registry.get_sample_value("luthier_rpc_seconds_count", labels) == 2


def counted(registry: CollectorRegistry, method: str, code: str) -> float | None:
    labels = {"method": f"/luthier.dataset.v1.FileService/{method}", "code": code}
    return registry.get_sample_value("luthier_rpc_requests_total", labels)


async def test_health_and_reflection_are_open(server: Serving) -> None:
    async with grpc.aio.insecure_channel(server.address) as opened:
        channel: Any = opened  # the two stubs are typed without asyncio, and without the calls
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", DESCRIPTOR.full_name):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
        answers = [item async for item in reflection.ServerReflectionInfo(iter(requests))]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert DESCRIPTOR.full_name in listed


async def test_an_address_is_served_once(server: Serving, files: Files) -> None:
    with pytest.raises(RuntimeError, match="bind"):
        async with serving(address=server.address):
            pass
