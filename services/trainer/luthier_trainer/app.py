"""The composition root of the trainer's API and controller."""

from __future__ import annotations

from collections.abc import Callable

from luthier.trainer.v1 import run_service_pb2, training_job_service_pb2
from luthier.trainer.v1.calibration_pb2 import Calibration
from luthier.trainer.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingJobEvent
from luthier.trainer.v1.training_job_service_pb2_grpc import (
    add_TrainingJobServiceServicer_to_server,
)
from luthier_common.events.announcer import Announcer
from luthier_common.events.stream import ensure_stream
from luthier_common.identity import IdentitySigner
from luthier_common.lifespan import Lifespan
from luthier_common.metrics import RpcMetrics
from luthier_common.nats_client import open_nats
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.open import open_object_store
from luthier_common.objects.port import ObjectStore
from luthier_common.records.collection import Collection
from luthier_common.records.jetstream import open_records
from luthier_common.records.journal import Journal, guard_against_loss
from luthier_common.rpc.client import connect
from luthier_common.rpc.server import RpcServer

from luthier_trainer import calibrations, job_events, jobs
from luthier_trainer.calibrations import Calibrations
from luthier_trainer.commands import Commands
from luthier_trainer.controller import Controller
from luthier_trainer.events import event_for
from luthier_trainer.gpu_metrics import GpuMetrics, Gpus
from luthier_trainer.job_events import JobEvents
from luthier_trainer.job_metrics import JobMetrics, at_work
from luthier_trainer.job_queue import JobQueue
from luthier_trainer.job_service import JobService
from luthier_trainer.jobs import Jobs
from luthier_trainer.launchers import ChildProcessLauncher, Launcher
from luthier_trainer.metrics import Metrics
from luthier_trainer.peers import Peers
from luthier_trainer.preflight.devices import Devices, Prices
from luthier_trainer.publish import Publisher
from luthier_trainer.run_reports import RunReports
from luthier_trainer.scheduling import Capacity
from luthier_trainer.settings import TrainerSettings
from luthier_trainer.supervisor import Supervisor
from luthier_trainer.training_datasets import TrainingDatasets
from luthier_trainer.validation import Validation

LauncherFor = Callable[[TrainerSettings, str], Launcher]
"""Makes the launcher of runs that report to an address."""


async def build(
    settings: TrainerSettings,
    lifespan: Lifespan,
    launcher_for: LauncherFor = ChildProcessLauncher,
) -> RpcServer:
    """Wire the trainer and open it; returns the server, for its address."""
    metrics = Metrics(lifespan.registry)
    objects = await _objects(settings)
    blobs = Blobs(objects)
    nats = await lifespan.enter(open_nats(settings.nats_url, name="trainer"))
    stream = nats.jetstream()
    records = await open_records(stream, "trainer")
    await guard_against_loss(objects, records)
    await ensure_stream(stream)
    await lifespan.enter(Journal(records, objects))
    await lifespan.enter(Announcer(records, event_for, source="luthier.trainer"))
    job_records = await lifespan.enter(Collection(records, TrainingJob, jobs.PATTERN))
    event_records = await lifespan.enter(Collection(records, TrainingJobEvent, job_events.PATTERN))
    measured = Calibrations(
        await lifespan.enter(Collection(records, Calibration, calibrations.PATTERN))
    )
    events = JobEvents(event_records)
    peers = await _peers(settings, lifespan)
    gpus = Gpus()
    lifespan.registry.register(JobMetrics(job_records))
    lifespan.registry.register(GpuMetrics(gpus, lambda: (job.name for job in at_work(job_records))))
    capacity = Capacity(settings.max_runs, _run_memory(settings, gpus))
    queue = JobQueue(job_records, capacity, device_class=gpus.device_class())
    validation = Validation(blobs, peers, _devices(settings, gpus, measured))
    publisher = Publisher(blobs, peers)
    all_jobs = Jobs(job_records, events, peers, validation, queue)
    reports = RunReports(job_records, events, publisher, metrics)
    server = await lifespan.enter(
        _server(settings, lifespan, JobService(all_jobs, events), reports)
    )
    supervisor = Supervisor(
        job_records,
        peers,
        launcher_for(settings, _reachable(server)),
        objects,
        settings.work_dir,
        hang_seconds=settings.hang_seconds,
        give_back_seconds=settings.stop_seconds,
    )
    controller = Controller(
        job_records,
        events,
        validation,
        queue,
        supervisor,
        publisher,
        measured,
        metrics,
    )
    # After the server, so that it ends first and the runs can still report.
    lifespan.spawn(controller.run(), name="controller")
    lifespan.callback(controller.drain)
    lifespan.spawn(TrainingDatasets(job_records, peers).run(), name="training datasets")
    await lifespan.enter(Commands(nats, all_jobs, lifespan.registry))
    return server


def _devices(settings: TrainerSettings, gpus: Gpus, measured: Calibrations) -> Devices:
    prices = Prices(settings.device_prices, settings.price_currency)
    return Devices.beside(gpus.device_class(), _run_memory(settings, gpus), measured, prices)


def _run_memory(settings: TrainerSettings, gpus: Gpus) -> int | None:
    """Bytes of the device's memory that each of its runs can have."""
    memory = gpus.device_memory_bytes()
    return None if memory is None else memory // settings.max_runs


async def _objects(settings: TrainerSettings) -> ObjectStore:
    return await open_object_store(
        settings.objects_url,
        access_key=settings.objects_access_key,
        secret_key=settings.objects_secret_key.get_secret_value(),
    )


async def _peers(settings: TrainerSettings, lifespan: Lifespan) -> Peers:
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    return Peers(
        await lifespan.enter(connect(settings.dataset_address, signer=signer)),
        await lifespan.enter(connect(settings.inference_address, signer=signer)),
    )


def _server(
    settings: TrainerSettings, lifespan: Lifespan, jobs: JobService, reports: RunReports
) -> RpcServer:
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    server = RpcServer(
        settings.grpc_address,
        authenticate=signer.authenticate,
        metrics=RpcMetrics(lifespan.registry),
        drain_seconds=settings.drain_seconds,
    )
    job_service = training_job_service_pb2.DESCRIPTOR.services_by_name["TrainingJobService"]
    server.add_service(jobs, add_TrainingJobServiceServicer_to_server, job_service)
    run_service = run_service_pb2.DESCRIPTOR.services_by_name["RunService"]
    server.add_service(reports, add_RunServiceServicer_to_server, run_service)
    return server


def _reachable(server: RpcServer) -> str:
    """The address for this machine's own processes: one of all interfaces is none to call."""
    host = server.address.rpartition(":")[0]
    return f"127.0.0.1:{server.port}" if host in ("0.0.0.0", "[::]") else server.address
