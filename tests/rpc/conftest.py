"""One gateway for each module of tests; what its owners hold is new for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio

from tests.support.gateway import RunningGateway
from tests.support.gateway import gateway as run_gateway
from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk, official_sdk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningGateway]:
    async with run_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def gateway(gateway_process: RunningGateway) -> RunningGateway:
    gateway_process.owners.reset()
    return gateway_process


@pytest.fixture
def owners(gateway: RunningGateway) -> Owners:
    return gateway.owners


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both_halves(gateway_process: RunningGateway) -> AsyncIterator[dict[str, Sdk]]:
    async with (
        official_sdk(gateway_process, "async") as here,
        official_sdk(gateway_process, "sync") as in_a_thread,
    ):
        yield {"async": here, "sync": in_a_thread}


@pytest.fixture(params=["async", "sync"])
def sdk(
    gateway: RunningGateway, both_halves: dict[str, Sdk], request: pytest.FixtureRequest
) -> Sdk:
    """Both halves of the SDK, one after the other."""
    return both_halves[request.param]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http_process(gateway_process: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway_process.http() as client:
        yield client


@pytest.fixture
def http(gateway: RunningGateway, http_process: httpx2.AsyncClient) -> httpx2.AsyncClient:
    return http_process
