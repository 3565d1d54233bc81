"""The whole platform on one machine: which processes there are and how they find each other."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from luthier_common.errors import AlreadyExists, FailedPrecondition
from luthier_common.settings import PREFIX, load

from luthier_standalone.backends import Backends, own_nats
from luthier_standalone.data_dir import Connection, DataDir, Secrets
from luthier_standalone.gateway import Gateway
from luthier_standalone.library import Snapshot, import_snapshot, public_models
from luthier_standalone.ports import HOST, allocate, is_free
from luthier_standalone.processes import Kept, ServiceProcess, ServiceSpec

_logger = logging.getLogger(__name__)

SERVICES = ("dataset", "inference", "trainer", "gateway")
"""In the order they start; they stop in the opposite one, NATS last."""

_DRAIN_SECONDS = 10.0
_SAVE_SECONDS = 50.0
"""Beyond draining: a trainer's runs save their state (its `stop_seconds`, and a margin)."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens; fixed while the platform is up, so that callers find it again."""

    rest: int
    grpc: Mapping[str, int]
    """By service."""
    metrics: Mapping[str, int]
    """By service."""
    nats: int


def choose_ports(rest: int, grpc: int) -> Ports:
    """Return ports for everything; 0 means any. FailedPrecondition if a wanted one is taken."""
    for option, port in (("--rest-port", rest), ("--grpc-port", grpc)):
        if port and not is_free(port):
            raise FailedPrecondition(
                f"port {port} is in use; choose another with {option} (0 means any)",
                reason="PORT_IN_USE",
            )
    free = iter(allocate(2 * len(SERVICES) + 2, avoid=frozenset({rest, grpc})))
    grpc_ports = {service: next(free) for service in SERVICES}
    metrics = {service: next(free) for service in SERVICES}
    any_rest, nats = next(free), next(free)
    if grpc:
        grpc_ports["gateway"] = grpc
    return Ports(rest or any_rest, grpc_ports, metrics, nats)


@dataclass(frozen=True, slots=True)
class Site:
    """What the services of one platform are told."""

    data: DataDir
    ports: Ports
    secrets: Secrets
    nats_url: str
    objects_url: str


def service_environment(service: str, site: Site) -> dict[str, str]:
    """Return the environment of a service: this process's own with its settings on top."""
    ports = site.ports
    settings = {f"{name.upper()}_ADDRESS": f"{HOST}:{ports.grpc[name]}" for name in SERVICES} | {
        "GRPC_ADDRESS": f"{HOST}:{ports.grpc[service]}",
        "METRICS_ADDRESS": f"{HOST}:{ports.metrics[service]}",
        "NATS_URL": site.nats_url,
        "OBJECTS_URL": site.objects_url,
        "IDENTITY_SECRET": site.secrets.identity,
        "WORK_DIR": str(site.data.work(service)),
        "DRAIN_SECONDS": str(_DRAIN_SECONDS),
    }
    if service == "gateway":
        settings["REST_ADDRESS"] = f"{HOST}:{ports.rest}"
        settings["BOOTSTRAP_API_KEY"] = site.secrets.api_key
    return {**os.environ, **{PREFIX + name: value for name, value in settings.items()}}


def service_spec(service: str, site: Site) -> ServiceSpec:
    """Return how to run a service."""
    return ServiceSpec(
        name=service,
        argv=(sys.executable, "-m", f"luthier_{service}"),
        ready_url=f"http://{HOST}:{site.ports.metrics[service]}/readyz",
        log=site.data.log(service),
        env=service_environment(service, site),
        stop_seconds=_DRAIN_SECONDS + (_SAVE_SECONDS if service == "trainer" else 10.0),
    )


class Platform:
    """A running platform; leaving the context drains and stops all of it."""

    def __init__(
        self, data: DataDir, *, rest_port: int, grpc_port: int, models: Sequence[Snapshot]
    ) -> None:
        self._data = data
        self._wanted = (rest_port, grpc_port)
        self._models = models
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Connection:
        async with AsyncExitStack() as stack:
            connection = await self._start(stack)
            self._stack = stack.pop_all()
        return connection

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> Connection:
        data = self._data
        stack.enter_context(data.locked())
        data.withdraw()  # one that a killed platform left behind
        ports = choose_ports(*self._wanted)
        _make_folders(data)
        backends, nats = load(Backends), own_nats(data, port=ports.nats)
        site = Site(
            data=data,
            ports=ports,
            secrets=data.secrets(),
            nats_url=backends.nats_url or nats.url,
            objects_url=backends.objects_address(data),
        )
        if not backends.nats_url:
            await stack.enter_async_context(Kept("nats", nats))
        for service in SERVICES:
            process = ServiceProcess(service_spec(service, site))
            await stack.enter_async_context(Kept(service, process))
        connection = await self._import_models(_connection(site, ()))
        stack.callback(data.withdraw)
        data.publish(connection)
        return connection

    async def _import_models(self, connection: Connection) -> Connection:
        async with Gateway(connection) as gateway:
            for snapshot in self._models:
                try:
                    await import_snapshot(gateway, self._data, snapshot)
                except AlreadyExists:
                    # Its adapters were tuned on the bytes that are there.
                    _logger.warning(
                        "the library keeps its %s: %s differs", snapshot.model_id, snapshot.path
                    )
            models = await public_models(gateway)
        return replace(connection, models=models)


def _connection(site: Site, models: tuple[str, ...]) -> Connection:
    return Connection(
        rest=f"http://{HOST}:{site.ports.rest}/v1",
        grpc=f"{HOST}:{site.ports.grpc['gateway']}",
        nats=site.nats_url,
        api_key=site.secrets.api_key,
        models=models,
    )


def _make_folders(data: DataDir) -> None:
    folders: list[Path] = [data.nats, data.objects, data.logs]
    folders += [data.work(service) for service in SERVICES]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
