"""A kept process is there, whatever happens to it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from luthier_common.errors import Unavailable
from luthier_standalone.ports import HOST, allocate
from luthier_standalone.processes import (
    Kept,
    ServiceProcess,
    ServiceSpec,
    describe_exit,
    last_words,
)

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def spec(tmp_path: Path, program: str, port: int, stop_seconds: float = 5.0) -> ServiceSpec:
    return ServiceSpec(
        name="thing",
        argv=(sys.executable, "-c", program, str(port)),
        ready_url=f"http://{HOST}:{port}/readyz",
        log=tmp_path / "thing.log",
        env=dict(os.environ),
        stop_seconds=stop_seconds,
    )


OTHERS: set[int] = set()
"""Processes that were there before a test, whoever has left them."""


@pytest.fixture(autouse=True)
def count_from_here() -> None:
    OTHERS.clear()
    OTHERS.update(child.pid for child in psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and child.pid not in OTHERS
    ]


async def until(said: asyncio.Queue[str], words: str) -> None:
    async with asyncio.timeout(30):
        while words not in await said.get():
            pass


async def test_a_killed_process_is_started_again_and_stopped_at_the_end(tmp_path: Path) -> None:
    (port,) = allocate(1)
    said: asyncio.Queue[str] = asyncio.Queue()
    async with Kept("thing", ServiceProcess(spec(tmp_path, SERVER, port)), said.put_nowait):
        (first,) = children()
        first.send_signal(signal.SIGKILL)
        await until(said, "thing ended (signal 9)")
        await until(said, "thing works again")
        (second,) = children()
        assert second.pid != first.pid
        _, writer = await asyncio.open_connection(HOST, port)
        writer.close()
        await writer.wait_closed()
    assert children() == []


async def test_a_process_that_cannot_start_tells_why(tmp_path: Path) -> None:
    program = "import sys; sys.exit('the settings are wrong')"
    with pytest.raises(Unavailable, match="thing could not start: the settings are wrong"):
        await Kept("thing", ServiceProcess(spec(tmp_path, program, allocate(1)[0]))).__aenter__()


async def test_cancelling_a_start_leaves_no_process(tmp_path: Path) -> None:
    program = "import time; print('begun', flush=True); time.sleep(600)"
    process = ServiceProcess(spec(tmp_path, program, allocate(1)[0]))
    starting = asyncio.create_task(process.start())
    async with asyncio.timeout(30):
        while not children():
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() == []


class Flaky:
    """Dies once, and then fails to start as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.starts = 0
        self.stops = 0
        self._failures = failures

    async def start(self) -> None:
        self.starts += 1
        if 1 < self.starts <= 1 + self._failures:
            raise Unavailable("not yet", reason="NOT_YET")

    async def wait(self) -> int:
        if self.starts > 1:
            await asyncio.Event().wait()
        return 3

    async def stop(self) -> None:
        self.stops += 1


async def test_a_failing_restart_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier_standalone.processes._FIRST_DELAY_SECONDS", 0.0)
    process, said = Flaky(failures=3), asyncio.Queue[str]()
    announce: Callable[[str], object] = said.put_nowait
    async with Kept("thing", process, announce):
        await until(said, "exit code 3")
        for _ in range(3):
            await until(said, "not yet")
        await until(said, "works again")
    assert (process.starts, process.stops) == (5, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it said nothing"),
        ("first\nsecond\n", "second"),
        ('{"level": "ERROR", "message": "no such place"}\n', "no such place"),
        ("17\n", "17"),
    ],
)
def test_last_words(tmp_path: Path, text: str, words: str) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert last_words(log) == words


def test_exit_codes_in_words() -> None:
    assert describe_exit(-9) == "signal 9"
    assert describe_exit(2) == "exit code 2"
