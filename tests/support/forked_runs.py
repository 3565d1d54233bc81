"""Runs as forks of one process that has torch already: real processes, within a second.

    python -m tests.support.forked_runs SOCKET PARENT

serves runs at a Unix socket until the process PARENT dies. A connection that sends a launch is the
run's: it is told the process id, then the exit code; when it closes, as when the trainer dies, the
run is killed. Messages are lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_trainer.run_settings import run_environment
from luthier_trainer.settings import TrainerSettings

from tests.support import run_faults

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 120.0
_PDEATHSIG = 1
_PRELOADED = (
    "luthier_trainer.run.app",
    "luthier_trainer.run.preferences",
    "luthier_trainer.run.seq2seq",
    "transformers.models.llama.modeling_llama",
    "transformers.models.t5.modeling_t5",
    "peft.tuners.lora.bnb",
)

Faults = Mapping[str, Mapping[str, Any]]
"""What a run shall suffer: names of functions in `run_faults` and their arguments."""


class ForkServer:
    """The process that forks runs, as the test knows it."""

    def __init__(self, path: Path, logs: Path) -> None:
        self.path = path
        self.logs = logs

    def launcher(
        self, settings: TrainerSettings, address: str, faults: Faults | None = None
    ) -> ForkedLauncher:
        """Return a launcher; to be bound to its faults for the trainer's composition root."""
        return ForkedLauncher(settings, address, self.path, self.logs, faults or {})

    def runs(self) -> list[LiveRun]:
        """Return the runs that are alive, oldest first, those that were lost included."""
        return [LiveRun(**run) for run in self._ask({"list": True})["runs"]]

    def lose(self, pid: int) -> None:
        """Have a run reported as killed that lives on: its machine is cut off."""
        self._ask({"lose": pid})

    def _ask(self, message: Mapping[str, Any]) -> Any:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            client.sendall(_line(message))
            return json.loads(client.makefile("rb").readline())


@dataclass(frozen=True)
class LiveRun:
    """A process that is at work on a job."""

    pid: int
    job: str
    epoch: int

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    """Run the process; it and all its runs end with the context, or with this process."""
    # Not below pytest's folders: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="luthier-runs-") as name:
        path, logs = Path(name) / "socket", Path(name) / "logs"
        logs.mkdir()
        command = [sys.executable, "-m", "tests.support.forked_runs", str(path), str(os.getpid())]
        offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen(command, cwd=_ROOT, env=os.environ | offline)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not path.exists():
                assert process.poll() is None, "the fork server ended at its start"
                assert time.monotonic() < deadline, "the fork server does not start"
                time.sleep(0.02)
            yield ForkServer(path, logs)
        finally:
            process.kill()
            process.wait()


class ForkedLauncher:
    """A launcher whose runs are forks; they die with the process that has launched them."""

    def __init__(
        self, settings: TrainerSettings, address: str, path: Path, logs: Path, faults: Faults
    ) -> None:
        self._settings = settings
        self._address = address
        self._path = path
        self._logs = logs
        self._faults = faults

    async def launch(self, job: TrainingJob, base: BaseModel, folder: Path) -> _ForkedRun:
        """See the port."""
        environment = run_environment(self._settings, self._address, folder, job, base)
        log = self._logs / f"{job.name.rpartition('/')[2]}-{job.epoch}.log"
        message = {
            "job": job.name,
            "epoch": job.epoch,
            "environment": environment,
            "log": str(log),
            "faults": self._faults,
        }
        reader, writer = await asyncio.open_unix_connection(self._path, limit=1 << 20)
        writer.write(_line(message))
        await writer.drain()
        return _ForkedRun(json.loads(await reader.readline())["pid"], reader, writer)


class _ForkedRun:
    def __init__(
        self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._pid = pid
        self._end = asyncio.create_task(_read_code(reader, writer), name=f"run {pid}")

    async def wait(self) -> int:
        return await asyncio.shield(self._end)

    async def stop(self, grace_seconds: float) -> None:
        try:
            self._send(signal.SIGTERM)
            await asyncio.wait([self._end], timeout=grace_seconds)
        finally:
            self._send(signal.SIGKILL)
        await self.wait()

    def _send(self, number: signal.Signals) -> None:
        if not self._end.done():  # afterwards the number may be another process's
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


async def _read_code(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    try:
        line = await reader.readline()
        return int(json.loads(line)["code"]) if line else -signal.SIGKILL
    finally:
        writer.close()


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


@dataclass
class _Forked:
    """A run, as the server knows it."""

    pid: int
    job: str
    epoch: int
    handle: int
    """Readable when it has ended (pidfd)."""
    owner: socket.socket | None
    """None for one that was lost."""


class _Server:
    """One thread, which forks: nothing else may be at work here."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._clients: set[socket.socket] = set()
        self._runs: dict[int, _Forked] = {}

    def serve(self) -> NoReturn:
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        client = self._listener.accept()[0]
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._hear(client))

    def _hear(self, client: socket.socket) -> None:
        # A client sends one line and awaits the answer.
        try:
            line = client.makefile("rb").readline()
        except ConnectionError:  # killed before it had read everything
            line = b""
        if not line:
            self._close(client)
            return
        message = json.loads(line)
        if "environment" in message:
            self._launch(client, message)
        elif "lose" in message:
            self._lose(message["lose"])
            self._tell(client, {})
        else:
            runs = [
                {"pid": run.pid, "job": run.job, "epoch": run.epoch} for run in self._runs.values()
            ]
            self._tell(client, {"runs": runs})

    def _launch(self, client: socket.socket, message: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become(message)
        run = _Forked(pid, message["job"], message["epoch"], os.pidfd_open(pid), client)
        self._runs[pid] = run
        self._selector.register(run.handle, selectors.EVENT_READ, lambda: self._reap(run))
        self._tell(client, {"pid": pid})

    def _lose(self, pid: int) -> None:
        run = self._runs.get(pid)
        if run is not None and run.owner is not None:
            self._tell(run.owner, {"code": -signal.SIGKILL})
            run.owner = None

    def _reap(self, run: _Forked) -> None:
        _, status = os.waitpid(run.pid, 0)
        self._selector.unregister(run.handle)
        os.close(run.handle)
        del self._runs[run.pid]
        if run.owner is not None:
            self._tell(run.owner, {"code": os.waitstatus_to_exitcode(status)})

    def _tell(self, client: socket.socket, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it has gone: `_hear` will notice
            client.sendall(_line(message))

    def _close(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        self._clients.discard(client)
        client.close()
        for run in self._runs.values():
            if run.owner is client:
                run.owner = None
                os.kill(run.pid, signal.SIGKILL)

    def _become(self, message: dict[str, Any]) -> NoReturn:
        """Be the run, in the fork."""
        _die_with(os.getppid())
        os.setsid()
        self._selector.close()
        for part in (self._listener, *self._clients):
            part.close()
        for run in self._runs.values():
            os.close(run.handle)
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(message["environment"])
        code: Any = 1
        try:
            from luthier_trainer.run.__main__ import main as do_run

            for name, arguments in message["faults"].items():
                getattr(run_faults, name)(**arguments)
            code = do_run()
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> NoReturn:
    path, parent = Path(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    for name in _PRELOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.freeze()  # so that a fork's collections copy no pages
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(64)
    Path(f"{path}.new").rename(path)  # there once it can be connected to
    _Server(listener).serve()


if __name__ == "__main__":
    main()
