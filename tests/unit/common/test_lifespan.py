import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from luthier_common.lifespan import Lifespan

ENVIRONMENT = {"LUTHIER_OBJECTS_URL": "file:///data", "LUTHIER_IDENTITY_SECRET": "s" * 32}


@asynccontextmanager
async def noting(log: list[str], name: str) -> AsyncIterator[str]:
    log.append(f"open {name}")
    yield name
    log.append(f"close {name}")


async def test_closes_in_reverse_order_and_is_not_ready_first() -> None:
    log: list[str] = []
    async with Lifespan() as lifespan:
        lifespan.health.ready = True

        async def note_readiness() -> None:
            log.append(f"ready {lifespan.health.ready}")

        assert await lifespan.enter(noting(log, "nats")) == "nats"
        await lifespan.enter(noting(log, "server"))
        lifespan.callback(note_readiness)
    assert log == ["open nats", "open server", "ready False", "close server", "close nats"]


async def test_work_is_cancelled_at_its_turn() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("work ended")

    async with Lifespan() as lifespan:
        await lifespan.enter(noting(log, "nats"))
        lifespan.spawn(work(), name="work")
        await lifespan.enter(noting(log, "server"))
        await asyncio.sleep(0)
    assert log[2:] == ["close server", "work ended", "close nats"]
    assert not lifespan.failed


async def test_failing_work_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise RuntimeError("boom")

    async with Lifespan() as lifespan:
        lifespan.spawn(work(), name="controller")
        await asyncio.wait_for(lifespan.stopping.wait(), 5)
    assert lifespan.failed
    assert "boom" in caplog.text


async def test_work_does_not_inherit_the_callers_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody")
    variable.set("a caller")

    async def work() -> str:
        return variable.get()

    async with Lifespan() as lifespan:
        task: asyncio.Task[Any] = lifespan.spawn(work(), name="work")
        assert await task == "nobody"


SERVICE = """
import asyncio, sys
from luthier_common.errors import FailedPrecondition
from luthier_common.lifespan import run_service
from luthier_common.settings import ServiceSettings

async def build(settings, lifespan):
    async def closed():
        print("closed", flush=True)
    lifespan.callback(closed)
    if sys.argv[1] == "slow":
        print("building", flush=True)
        await asyncio.Event().wait()
    if sys.argv[1] == "refuse":
        raise FailedPrecondition("run `luthier records rebuild`", reason="RECORDS_LOST")
    if sys.argv[1] == "fail":
        async def work():
            raise RuntimeError("boom")
        lifespan.spawn(work(), name="work")

sys.exit(run_service("demo", ServiceSettings, build))
"""


def start(mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE, mode],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_service_in_order(number: signal.Signals) -> None:
    with start("serve") as process:
        assert process.stderr is not None
        ready = json.loads(process.stderr.readline())
        assert ready["message"] == "ready"
        with urllib.request.urlopen(f"http://{ready['metrics_address']}/readyz") as answer:
            assert answer.status == 200
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == "closed\n"


def test_a_signal_ends_a_service_that_is_still_starting() -> None:
    with start("slow") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        process.terminate()
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == "closed\n"


@pytest.mark.parametrize(
    ("mode", "message"), [("fail", "boom"), ("refuse", "luthier records rebuild")]
)
def test_a_failure_is_logged_and_exits_1(mode: str, message: str) -> None:
    with start(mode) as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out == "closed\n"
    lines = [json.loads(line) for line in err.splitlines()]
    assert any(message in json.dumps(line) and line["level"] == "CRITICAL" for line in lines)
