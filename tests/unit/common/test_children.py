import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import psutil
import pytest
from luthier_common.children import Child, spawn

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
PARENT = """
import asyncio, sys
from luthier_common.children import spawn

async def main():
    child = await spawn("sh", "-c", "echo up; exec sleep 600", stdout=asyncio.subprocess.PIPE)
    if sys.argv[1] == "running":
        await child.stdout.readline()
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""
FAMILY = """
import subprocess, time
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""


async def line(child: Child) -> str:
    assert child.stdout is not None
    return (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()


def gone(pid: int) -> bool:
    """Wait for the end of a process that is not ours, so that only its state can be read."""
    try:
        process = psutil.Process(pid)
        end = time.monotonic() + 10
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
            try:
                process.wait(0.05)
            except psutil.TimeoutExpired:
                continue
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_runs_a_program_with_its_own_pid_and_environment(tmp_path: Path) -> None:
    script = "import os; print(os.getpid(), os.getsid(0), os.getcwd(), os.environ['X'])"
    child = await spawn(sys.executable, "-c", script, env={"X": "1"}, cwd=tmp_path, stdout=PIPE)
    assert await line(child) == f"{child.pid} {child.pid} {tmp_path} 1"
    assert await child.wait() == 0
    assert child.returncode == 0
    assert await child.stop() == 0


async def test_stop_asks_first() -> None:
    async with await spawn("sleep", "600") as child:
        assert await child.stop(grace=20) == -signal.SIGTERM


async def test_stop_kills_who_does_not_listen() -> None:
    child = await spawn(sys.executable, "-c", STUBBORN, stdout=PIPE)
    assert await line(child) == "up"
    assert await child.stop(grace=0.1) == -signal.SIGKILL


async def test_kill_takes_the_whole_family() -> None:
    child = await spawn(sys.executable, "-c", FAMILY, stdout=PIPE)
    grandchild = int(await line(child))
    child.kill()
    assert await child.wait() == -signal.SIGKILL
    assert gone(grandchild)


@pytest.mark.parametrize("phase", ["starting", "running"])
async def test_a_child_dies_with_its_parent(phase: str) -> None:
    parent = await spawn(sys.executable, "-c", PARENT, phase, stdout=PIPE)
    pid = int(await line(parent))
    assert psutil.pid_exists(pid)
    os.kill(parent.pid, signal.SIGKILL)  # the parent alone: its group would take the child along
    await parent.wait()
    assert gone(pid)


async def test_a_missing_program_ends_with_127() -> None:
    child = await spawn("/no/such/program", stderr=PIPE)
    assert await child.wait() == 127
    assert child.stderr is not None
    assert b"/no/such/program" in await child.stderr.read()
