"""Servers that go away, drain and come back."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from luthier.dataset.v1 import file_pb2, file_service_pb2
from luthier.dataset.v1.file_service_pb2_grpc import (
    FileServiceServicer,
    FileServiceStub,
    add_FileServiceServicer_to_server,
)
from luthier_common import errors
from luthier_common.children import Child, spawn
from luthier_common.identity import IdentitySigner
from luthier_common.rpc.client import connect

from tests.support.grpc_server import SECRET, caller, serving

DESCRIPTOR = file_service_pb2.DESCRIPTOR.services_by_name["FileService"]
GetFile = file_service_pb2.GetFileRequest
Download = file_service_pb2.DownloadFileRequest
OWN = "projects/acme/files/f1"

CHILD = """
import asyncio, sys
from luthier.dataset.v1 import file_pb2, file_service_pb2
from luthier.dataset.v1.file_service_pb2_grpc import *
from luthier_common.identity import IdentitySigner
from luthier_common.metrics import RpcMetrics, new_registry
from luthier_common.rpc.server import RpcServer

class Files(FileServiceServicer):
    async def GetFile(self, request, context):
        return file_pb2.File(name=request.name)
    async def ListFiles(self, request, context):
        print("listing", flush=True)
        await asyncio.Event().wait()

async def main():
    signer = IdentitySigner(sys.argv[2])
    server = RpcServer(sys.argv[1], authenticate=signer.authenticate,
                       metrics=RpcMetrics(new_registry()))
    server.add_service(Files(), add_FileServiceServicer_to_server,
                       file_service_pb2.DESCRIPTOR.services_by_name["FileService"])
    async with server:
        print("serving", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def start(address: str) -> Child:
    child = await spawn(
        sys.executable, "-c", CHILD, address, SECRET, stdout=asyncio.subprocess.PIPE
    )
    assert await line(child) == "serving"
    return child


async def line(child: Child) -> str:
    assert child.stdout is not None
    return (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def test_a_killed_and_restarted_server_is_found_again(address: str) -> None:
    async with connect(address, signer=IdentitySigner(SECRET)) as channel:
        stub = FileServiceStub(channel.with_identity(caller()))
        for _ in range(3):
            async with await start(address) as child:
                began = time.monotonic()
                assert (await stub.GetFile(GetFile(name=OWN))).name == OWN
                assert time.monotonic() - began < 2
                child.kill()
                assert await child.wait() == -signal.SIGKILL


async def test_a_long_outage_is_not_made_longer(address: str) -> None:
    files = Files()
    async with connect(address, signer=IdentitySigner(SECRET), timeout=3) as channel:
        stub = FileServiceStub(channel.with_identity(caller()))
        with pytest.raises(errors.Unavailable):  # grpc's own pauses would have grown by now
            await stub.GetFile(GetFile(name=OWN))
        service = (files, add_FileServiceServicer_to_server, DESCRIPTOR)
        async with serving(service, address=address):
            assert (await stub.GetFile(GetFile(name=OWN), timeout=1)).name == OWN


async def test_a_read_survives_a_restart_in_its_middle(address: str) -> None:
    async with connect(address, signer=IdentitySigner(SECRET), timeout=30) as channel:
        stub = FileServiceStub(channel.with_identity(caller()))
        async with await start(address) as first:
            listing: Any = stub.ListFiles(file_service_pb2.ListFilesRequest(parent="projects/acme"))
            task = asyncio.create_task(listing)
            assert await line(first) == "listing"
            first.kill()
            await first.wait()
            async with await start(address) as second:
                assert await line(second) == "listing"  # tried again, at the new server
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task


async def test_a_dead_peer_is_told_within_the_deadline(address: str) -> None:
    async with connect(address, signer=IdentitySigner(SECRET), timeout=0.3) as channel:
        stub = FileServiceStub(channel.with_identity(caller()))
        calls: list[Any] = [
            stub.GetFile(GetFile(name=OWN)),
            stub.CreateFile(requests()),
            anext(aiter(stub.DownloadFile(Download(name=OWN)))),
        ]
        for call in calls:
            with pytest.raises(errors.Unavailable) as caught:
                await asyncio.wait_for(call, 5)
            assert caught.value.reason == "SERVICE_UNREACHABLE"
            assert address not in caught.value.message, "it goes on to callers outside"
            assert not caught.value.metadata


async def requests() -> AsyncIterator[file_service_pb2.CreateFileRequest]:
    yield file_service_pb2.CreateFileRequest(parent="projects/acme")


class Files(FileServiceServicer):
    """Fails `failures` times; holds downloads at `gate`."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0
        self.gate = asyncio.Event()

    async def GetFile(self, request: Any, context: Any) -> file_pb2.File:
        self._maybe_fail()
        return file_pb2.File(name=request.name)

    async def DeleteFile(self, request: Any, context: Any) -> Any:
        self._maybe_fail()

    def _maybe_fail(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise errors.Unavailable("busy", reason="BUSY")

    async def ListFiles(self, request: Any, context: Any) -> Any:
        raise AssertionError("not called here")

    async def CreateFile(self, request_iterator: Any, context: Any) -> Any:
        raise AssertionError("not called here")

    async def DownloadFile(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield file_service_pb2.DownloadFileResponse(chunk=b"one")
        await self.gate.wait()
        yield file_service_pb2.DownloadFileResponse(chunk=b"two")


async def test_only_reads_are_retried() -> None:
    files = Files(failures=2)
    async with serving((files, add_FileServiceServicer_to_server, DESCRIPTOR)) as server:
        stub = FileServiceStub(server.channel())
        assert (await stub.GetFile(GetFile(name=OWN))).name == OWN
        assert files.calls == 3
        files.calls = 0
        with pytest.raises(errors.Unavailable):
            await stub.DeleteFile(file_service_pb2.DeleteFileRequest(name=OWN))
        assert files.calls == 1


async def test_retries_come_to_an_end() -> None:
    files = Files(failures=100)
    async with serving((files, add_FileServiceServicer_to_server, DESCRIPTOR)) as server:
        with pytest.raises(errors.Unavailable, match="busy"):
            await FileServiceStub(server.channel()).GetFile(GetFile(name=OWN))
    assert files.calls == 4


async def test_draining_refuses_new_calls_and_lets_running_ones_end() -> None:
    files = Files()
    service = (files, add_FileServiceServicer_to_server, DESCRIPTOR)
    async with serving(service, drain_seconds=20) as server:
        stream = aiter(FileServiceStub(server.channel()).DownloadFile(Download(name=OWN)))
        assert (await anext(stream)).chunk == b"one"
        leaving = asyncio.create_task(server.rpc.__aexit__(None, None, None))
        late = connect(server.address, signer=server.signer, timeout=0.3)
        async with late:
            with pytest.raises(errors.Unavailable):
                await FileServiceStub(late.with_identity(caller())).GetFile(GetFile(name=OWN))
        assert not leaving.done()
        files.gate.set()
        assert (await anext(stream)).chunk == b"two"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await asyncio.wait_for(leaving, 5)


async def test_draining_ends_when_its_time_is_up() -> None:
    files = Files()
    service = (files, add_FileServiceServicer_to_server, DESCRIPTOR)
    async with serving(service, drain_seconds=0.2) as server:
        stream = aiter(FileServiceStub(server.channel()).DownloadFile(Download(name=OWN)))
        await anext(stream)
        await asyncio.wait_for(server.rpc.__aexit__(None, None, None), 5)
        with pytest.raises(errors.Unavailable):
            await anext(stream)
