"""The gateway as its composition root builds it, before scripted owners, on a real NATS server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from grpc.aio import Channel, insecure_channel
from luthier.gateway.v1 import api_key_pb2, api_key_service_pb2, api_key_service_pb2_grpc
from luthier.policy.v1 import policy_pb2
from luthier_common.lifespan import Lifespan
from luthier_gateway.app import build
from luthier_gateway.settings import GatewaySettings
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from tests.support.grpc_server import SECRET
from tests.support.nats_server import nats_server
from tests.support.scripted_owners import Owners, scripted_owners

KEY = "sk-luthier-the-operator-of-the-tests"
UPLOAD_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True)
class RunningGateway:
    """Its addresses, and the owners behind it."""

    rest: str
    grpc: str
    owners: Owners
    registry: CollectorRegistry

    def client(self, key: str = KEY, *, max_retries: int = 0) -> openai.AsyncOpenAI:
        """Return the official SDK, pointed here."""
        return openai.AsyncOpenAI(
            base_url=f"{self.rest}/v1", api_key=key, max_retries=max_retries, timeout=30
        )

    def sync_client(self, key: str = KEY) -> openai.OpenAI:
        """Return the official SDK's other half, for `asyncio.to_thread`."""
        return openai.OpenAI(base_url=f"{self.rest}/v1", api_key=key, max_retries=0, timeout=30)

    def http(self, key: str = KEY) -> httpx2.AsyncClient:
        """Return a plain HTTP client, for what the SDK would never send."""
        return httpx2.AsyncClient(
            base_url=f"{self.rest}/v1", headers=dict(bearer(key)) if key else {}, timeout=30
        )

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """Open a plain gRPC channel."""
        async with insecure_channel(self.grpc) as channel:
            yield channel

    async def issue_key(
        self, role: policy_pb2.Role, project: str = "default", key_id: str = ""
    ) -> api_key_pb2.ApiKey:
        """Have the operator issue a key."""
        async with self.channel() as channel:
            request = api_key_service_pb2.CreateApiKeyRequest(
                parent=f"projects/{project}",
                api_key=api_key_pb2.ApiKey(role=role, display_name="a key"),
                api_key_id=key_id,
            )
            stub = api_key_service_pb2_grpc.ApiKeyServiceStub(channel)
            key: api_key_pb2.ApiKey = await stub.CreateApiKey(request, metadata=bearer(KEY))
            return key

    async def revoke_key(self, key: api_key_pb2.ApiKey) -> None:
        """Have the operator revoke a key."""
        async with self.channel() as channel:
            request = api_key_service_pb2.DeleteApiKeyRequest(name=key.name)
            stub = api_key_service_pb2_grpc.ApiKeyServiceStub(channel)
            await stub.DeleteApiKey(request, metadata=bearer(KEY))

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric; 0 when it does not exist."""
        return self.registry.get_sample_value(name, labels) or 0.0


def bearer(key: str) -> Sequence[tuple[str, str]]:
    """Return the metadata of a gRPC call that carries a key."""
    return (("authorization", f"Bearer {key}"),)


def told(answer: httpx2.Response) -> dict[str, Any]:
    """Return the error of an answer, made sure that it has OpenAI's form and an id."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def settings(folder: Path, nats_url: str, owners: str, **changed: Any) -> GatewaySettings:
    """Return settings for a gateway on free ports."""
    values: dict[str, Any] = {
        "grpc_address": "127.0.0.1:0",
        "rest_address": "127.0.0.1:0",
        "nats_url": nats_url,
        "objects_url": (folder / "objects").as_uri(),
        "identity_secret": SecretStr(SECRET),
        "dataset_address": owners,
        "trainer_address": owners,
        "inference_address": owners,
        "bootstrap_api_key": SecretStr(KEY),
        "max_upload_bytes": UPLOAD_BYTES,
        "drain_seconds": 0,
    }
    return GatewaySettings(**(values | changed))


@asynccontextmanager
async def running_gateway(
    configured: GatewaySettings, owners: Owners
) -> AsyncIterator[RunningGateway]:
    """Run the gateway with these settings."""
    async with Lifespan() as lifespan:
        doors = await build(configured, lifespan)
        yield RunningGateway(
            rest=f"http://{doors.rest.address}",
            grpc=doors.grpc.address,
            owners=owners,
            registry=lifespan.registry,
        )


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[RunningGateway]:
    """Run everything."""
    async with nats_server(folder) as nats, scripted_owners() as (owners, server):
        configured = settings(folder, nats.url, server.address)
        async with running_gateway(configured, owners) as running:
            yield running
