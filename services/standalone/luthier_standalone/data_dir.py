"""The data directory: everything a one-machine platform keeps, and who may use it.

lock              held by the running platform, holds its pid
secrets.json      identity secret and API key, made once, readable by the owner only
connection.json   how to connect; exists while the platform is up
nats/             NATS: records and events, its configuration and log
objects/          files, models, adapters and journals
work/{service}/   scratch folders
logs/{service}.log
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier_common.errors import FailedPrecondition

DEFAULT = Path(".luthier")
"""Used where neither `--data-dir` nor LUTHIER_DATA_DIR says otherwise."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not change over the life of a data directory."""

    identity: str
    """Signs the tokens between services."""
    api_key: str
    """The operator's key of project `default`."""
    nats: str
    """Password of the NATS server: whoever can write records needs no key."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How scripts connect to a running platform."""

    rest: str
    """Base URL of the OpenAI API, such as `http://127.0.0.1:8080/v1`."""
    grpc: str
    """`host:port` of the gateway's gRPC API."""
    nats: str
    """URL of the NATS server, its password included."""
    api_key: str
    models: tuple[str, ...]
    """Public ids of the base models."""


class DataDir:
    """A data directory; making one of these touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.nats = self.root / "nats"
        self.objects = self.root / "objects"
        self.logs = self.root / "logs"
        self._lock = self.root / "lock"
        self._secrets = self.root / "secrets.json"
        self._connection = self.root / "connection.json"

    def work(self, service: str) -> Path:
        """Return the scratch folder of a service."""
        return self.root / "work" / service

    def log(self, service: str) -> Path:
        """Return the log file of a service."""
        return self.logs / f"{service}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory alone; FailedPrecondition, naming the holder's pid, if it is taken."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock.open("a+") as lock:
            if not _try_lock(lock.fileno()):
                raise self._taken()
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def is_running(self) -> bool:
        """Whether a process holds the directory."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _taken(self) -> FailedPrecondition:
        pid = self._lock.read_text().strip() or "unknown"
        return FailedPrecondition(
            f"a platform already uses {self.root} (pid {pid}): stop it with Ctrl-C or "
            f"`kill {pid}`, or choose another folder with --data-dir",
            reason="DATA_DIR_IN_USE",
        )

    def secrets(self) -> Secrets:
        """Return the secrets, made at the first call."""
        if not self._secrets.exists():
            made = Secrets(
                identity=secrets.token_urlsafe(48),
                api_key=f"sk-luthier-{secrets.token_urlsafe(32)}",
                nats=secrets.token_urlsafe(32),
            )
            _write_private(self._secrets, asdict(made))
        return Secrets(**json.loads(self._secrets.read_text()))

    def publish(self, connection: Connection) -> None:
        """Write `connection.json`, readable by its owner only."""
        _write_private(self._connection, asdict(connection))

    def withdraw(self) -> None:
        """Remove `connection.json`."""
        self._connection.unlink(missing_ok=True)

    def connection(self) -> Connection:
        """Return how to connect; FailedPrecondition when no platform is up here."""
        if not self.is_running() or not self._connection.exists():
            raise FailedPrecondition(
                f"no platform is up in {self.root}: start one with `luthier up`, "
                "or name its folder with --data-dir",
                reason="PLATFORM_NOT_RUNNING",
            )
        found = json.loads(self._connection.read_text())
        return Connection(**{**found, "models": tuple(found["models"])})


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_private(path: Path, content: dict[str, object]) -> None:
    """Write JSON so that it appears whole, durable, and never readable by others."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)
