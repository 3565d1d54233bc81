"""The trainer as a process of its own, whose runs are forks: it can be killed like any other.

    python -m tests.support.trainer_process SOCKET LOGS FAULTS

with the trainer's settings in the environment.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from functools import partial
from pathlib import Path

from luthier_common.children import Child, spawn
from luthier_common.errors import PlatformError
from luthier_common.identity import IdentitySigner
from luthier_common.lifespan import run_service
from luthier_common.rpc.client import connect
from luthier_common.settings import PREFIX
from luthier_trainer.app import build
from luthier_trainer.settings import TrainerSettings

from tests.support.eventually import eventually
from tests.support.forked_runs import Faults, ForkServer
from tests.support.grpc_server import SECRET
from tests.support.trainer_service import TrainerClient

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0


class TrainerProcess:
    """A trainer that is started, ended and started again at the same address."""

    def __init__(
        self, folder: Path, forks: ForkServer, faults: Faults, settings: dict[str, str]
    ) -> None:
        self._log = folder / "trainer.log"
        self._arguments = (str(forks.path), str(forks.logs), json.dumps(faults))
        self._address = f"127.0.0.1:{_free_port()}"
        values = {
            "GRPC_ADDRESS": self._address,
            "OBJECTS_URL": (folder / "objects").as_uri(),
            "WORK_DIR": str(folder / "trainer"),
            "IDENTITY_SECRET": SECRET,
            "DRAIN_SECONDS": "0",
        } | settings
        self._settings = {PREFIX + name: value for name, value in values.items()}
        self._child: Child | None = None
        self._clients: list[TrainerClient] = []

    @property
    def trainer(self) -> TrainerClient:
        """Its client."""
        return self._clients[-1]

    async def start(self) -> None:
        """Start it, again and again as a supervisor would, until it answers."""

        async def answers() -> bool:
            if self._child is None or self._child.returncode is not None:
                await self._spawn()
            try:
                await self.trainer.listed()
            except PlatformError:
                return False
            return True

        await eventually(answers, _START_SECONDS)

    async def kill(self) -> None:
        """End it as a crash would."""
        assert self._child is not None
        self._child.kill()
        await self._child.wait()

    async def stop(self) -> int:
        """End it in order, and return the exit code."""
        assert self._child is not None
        return await self._child.stop(60)

    async def close(self) -> None:
        """Kill it, if need be, and close the clients."""
        await self.kill()
        for client in self._clients:
            await client.channel.close()

    async def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._child = await spawn(
                sys.executable,
                "-m",
                "tests.support.trainer_process",
                *self._arguments,
                env=os.environ | self._settings,
                cwd=_ROOT,
                stdout=log,
                stderr=log,
            )
        # A new channel: an old one would wait ever longer before it tries again.
        channel = connect(self._address, signer=IdentitySigner(SECRET))
        self._clients.append(TrainerClient(channel))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    path, logs, faults = sys.argv[1:]
    launcher = ForkServer(Path(path), Path(logs)).launcher
    launcher_for = partial(launcher, faults=json.loads(faults))
    return run_service("trainer", TrainerSettings, partial(build, launcher_for=launcher_for))


if __name__ == "__main__":
    sys.exit(main())
