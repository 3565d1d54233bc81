"""The composition root of the dataset service."""

from __future__ import annotations

from luthier.dataset.v1 import dataset_service_pb2, file_service_pb2, upload_service_pb2
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2_grpc import add_DatasetServiceServicer_to_server
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2_grpc import add_FileServiceServicer_to_server
from luthier.dataset.v1.upload_pb2 import Upload, UploadPart
from luthier.dataset.v1.upload_service_pb2_grpc import add_UploadServiceServicer_to_server
from luthier_common.events.announcer import Announcer
from luthier_common.events.stream import ensure_stream
from luthier_common.identity import IdentitySigner
from luthier_common.lifespan import Lifespan
from luthier_common.metrics import RpcMetrics
from luthier_common.nats_client import open_nats
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.open import open_object_store
from luthier_common.records.collection import Collection
from luthier_common.records.jetstream import open_records
from luthier_common.records.journal import Journal, guard_against_loss
from luthier_common.records.port import RecordStore
from luthier_common.rpc.client import connect
from luthier_common.rpc.server import RpcServer

from luthier_dataset import datasets, files, uploads
from luthier_dataset.build.make import Build
from luthier_dataset.builder import Builder
from luthier_dataset.cache import BlobCache
from luthier_dataset.dataset_service import DatasetService
from luthier_dataset.datasets import Datasets, dependents_of
from luthier_dataset.events import event_for
from luthier_dataset.file_service import FileService
from luthier_dataset.files import Files
from luthier_dataset.inference import Inference
from luthier_dataset.metrics import Metrics
from luthier_dataset.preview import Previews
from luthier_dataset.settings import DatasetSettings
from luthier_dataset.staging import Staging
from luthier_dataset.upload_service import UploadService
from luthier_dataset.uploads import Uploads


async def build(settings: DatasetSettings, lifespan: Lifespan) -> RpcServer:
    """Wire the dataset service and open it; returns the server, for its address."""
    metrics = Metrics(lifespan.registry)
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    objects = await open_object_store(
        settings.objects_url,
        access_key=settings.objects_access_key,
        secret_key=settings.objects_secret_key.get_secret_value(),
        public_url=settings.objects_public_url,
    )
    blobs = Blobs(objects)
    nats = await lifespan.enter(open_nats(settings.nats_url, name="dataset"))
    stream = nats.jetstream()
    records = await open_records(stream, "dataset")
    await guard_against_loss(objects, records)
    await ensure_stream(stream)
    await lifespan.enter(Journal(records, objects))
    await lifespan.enter(Announcer(records, event_for, source="luthier.dataset"))
    file_records = await lifespan.enter(Collection(records, File, files.PATTERN))
    dataset_records = await lifespan.enter(Collection(records, Dataset, datasets.PATTERN))

    channel = await lifespan.enter(connect(settings.inference_address, signer=signer))
    inference = Inference(channel, metrics)
    cache = BlobCache(blobs, settings.work_dir / "blobs")
    stored = Files(
        file_records,
        blobs,
        metrics,
        max_bytes=settings.max_file_bytes,
        dependents_of=lambda file: dependents_of(file, dataset_records),
    )
    made = Datasets(dataset_records, stored, inference, cache, settings.question_prompts)
    on_their_way = await _open_uploads(records, Staging(objects), stored, lifespan)
    making = Build(
        stored,
        blobs,
        inference,
        cache,
        settings.question_prompts,
        settings.work_dir / "builds",
        workers=settings.build_workers,
    )
    builder = Builder(dataset_records, making, metrics)
    lifespan.spawn(builder.run(), name="builder")

    server = RpcServer(
        settings.grpc_address,
        authenticate=signer.authenticate,
        metrics=RpcMetrics(lifespan.registry),
        drain_seconds=settings.drain_seconds,
    )
    shown = DatasetService(made, Previews(made, making))
    for servicer, adder, module in (
        (FileService(stored), add_FileServiceServicer_to_server, file_service_pb2),
        (UploadService(on_their_way), add_UploadServiceServicer_to_server, upload_service_pb2),
        (shown, add_DatasetServiceServicer_to_server, dataset_service_pb2),
    ):
        (descriptor,) = module.DESCRIPTOR.services_by_name.values()
        server.add_service(servicer, adder, descriptor)
    return await lifespan.enter(server)


async def _open_uploads(
    records: RecordStore, staging: Staging, stored: Files, lifespan: Lifespan
) -> Uploads:
    """Open the uploads and have those that end swept."""
    made = Uploads(
        await lifespan.enter(Collection(records, Upload, uploads.PATTERN)),
        await lifespan.enter(Collection(records, UploadPart, uploads.PART_PATTERN)),
        staging,
        stored,
    )
    lifespan.spawn(made.run(), name="uploads")
    return made
