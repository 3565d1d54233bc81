import asyncio

import pytest
from luthier_common.health import Health, StatusEndpoint
from luthier_common.metrics import new_registry
from prometheus_client import Counter


async def ask(address: str, request: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0].removeprefix("HTTP/1.1 "), body


async def get(address: str, path: str) -> tuple[str, str]:
    return await ask(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_serves_metrics_and_health() -> None:
    registry, health = new_registry(), Health()
    Counter("rows_total", "Rows.", registry=registry).inc(3)
    async with StatusEndpoint("127.0.0.1:0", registry=registry, health=health) as endpoint:
        status, body = await get(endpoint.address, "/metrics")
        assert status == "200 OK"
        assert "rows_total 3.0" in body
        assert "process_resident_memory_bytes" in body
        assert await get(endpoint.address, "/healthz") == ("200 OK", "alive\n")
        assert await get(endpoint.address, "/readyz") == ("503 Service Unavailable", "not ready\n")
        health.ready = True
        assert await get(endpoint.address, "/readyz?x=1") == ("200 OK", "ready\n")
        assert (await get(endpoint.address, "/other"))[0] == "404 Not Found"


async def test_outlives_peers_that_speak_no_http() -> None:
    registry = new_registry()
    async with StatusEndpoint("127.0.0.1:0", registry=registry, health=Health()) as endpoint:
        assert await ask(endpoint.address, "\x00" * 20_000) == ("", "")
        status, _ = await ask(endpoint.address, "POST /metrics HTTP/1.1\r\n\r\n")
        assert status == "405 Method Not Allowed"
        assert (await get(endpoint.address, "/healthz"))[0] == "200 OK"


async def test_a_taken_address_is_an_error() -> None:
    registry = new_registry()
    async with StatusEndpoint("127.0.0.1:0", registry=registry, health=Health()) as endpoint:
        second = StatusEndpoint(endpoint.address, registry=registry, health=Health())
        with pytest.raises(OSError, match="in use"):
            await second.__aenter__()
