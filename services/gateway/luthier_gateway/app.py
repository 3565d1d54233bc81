"""The gateway's composition root."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.dataset.v1 import dataset_service_pb2, file_service_pb2, upload_service_pb2
from luthier.gateway.v1 import api_key_pb2, api_key_service_pb2
from luthier.gateway.v1.api_key_service_pb2_grpc import add_ApiKeyServiceServicer_to_server
from luthier.inference.v1 import (
    adapter_service_pb2,
    base_model_service_pb2,
    generation_service_pb2,
)
from luthier.trainer.v1 import training_job_service_pb2
from luthier_common.events.announcer import Announcer
from luthier_common.events.stream import ensure_stream
from luthier_common.identity import IdentitySigner
from luthier_common.lifespan import Lifespan
from luthier_common.metrics import RpcMetrics
from luthier_common.nats_client import open_nats
from luthier_common.objects.open import open_object_store
from luthier_common.records.collection import Collection
from luthier_common.records.jetstream import open_records
from luthier_common.records.journal import Journal, guard_against_loss
from luthier_common.rpc.client import Channel, connect
from luthier_common.rpc.server import RpcServer

from luthier_gateway.api_keys import ApiKeyService, ensure_bootstrap_key, event_for
from luthier_gateway.forward import forward
from luthier_gateway.identity import API_KEY, KeyRing
from luthier_gateway.metrics import RestMetrics
from luthier_gateway.owners import Owners
from luthier_gateway.rest import RestServer, create_app
from luthier_gateway.settings import GatewaySettings

DATASET_SERVICES = (
    file_service_pb2.DESCRIPTOR.services_by_name["FileService"],
    upload_service_pb2.DESCRIPTOR.services_by_name["UploadService"],
    dataset_service_pb2.DESCRIPTOR.services_by_name["DatasetService"],
)
TRAINER_SERVICES = (training_job_service_pb2.DESCRIPTOR.services_by_name["TrainingJobService"],)
INFERENCE_SERVICES = (
    base_model_service_pb2.DESCRIPTOR.services_by_name["BaseModelService"],
    adapter_service_pb2.DESCRIPTOR.services_by_name["AdapterService"],
    generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"],
)
OWN_SERVICE = api_key_service_pb2.DESCRIPTOR.services_by_name["ApiKeyService"]

Keys = Collection[api_key_pb2.ApiKey]


@dataclass(frozen=True)
class Gateway:
    """The two open doors, for their addresses."""

    rest: RestServer
    grpc: RpcServer


async def build(settings: GatewaySettings, lifespan: Lifespan) -> Gateway:
    """Wire the gateway and open it: keys, the owners behind it, REST and gRPC before it."""
    keys = await _open_keys(settings, lifespan)
    ring = await lifespan.enter(KeyRing(keys))
    lifespan.spawn(ring.follow(), name="key ring")
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    dataset, trainer, inference = [
        await lifespan.enter(connect(address, signer=signer))
        for address in (
            settings.dataset_address,
            settings.trainer_address,
            settings.inference_address,
        )
    ]
    owners = Owners.behind(dataset=dataset, trainer=trainer, inference=inference)
    rest_app = create_app(
        owners,
        ring,
        RestMetrics(lifespan.registry),
        max_upload_bytes=settings.max_upload_bytes,
    )
    rest = RestServer(rest_app, settings.rest_address, drain_seconds=settings.drain_seconds)
    await lifespan.enter(rest)
    server = RpcServer(
        settings.grpc_address,
        authenticate=ring.authenticate,
        metrics=RpcMetrics(lifespan.registry),
        drain_seconds=settings.drain_seconds,
    )
    server.add_service(ApiKeyService(keys, ring), add_ApiKeyServiceServicer_to_server, OWN_SERVICE)
    _forward_all(server, dataset=dataset, trainer=trainer, inference=inference)
    return Gateway(rest, await lifespan.enter(server))


async def _open_keys(settings: GatewaySettings, lifespan: Lifespan) -> Keys:
    """Open the gateway's records, their followers and the keys among them."""
    objects = await open_object_store(
        settings.objects_url,
        access_key=settings.objects_access_key,
        secret_key=settings.objects_secret_key.get_secret_value(),
    )
    nats = await lifespan.enter(open_nats(settings.nats_url, name="gateway"))
    jetstream = nats.jetstream()
    records = await open_records(jetstream, "gateway")
    await guard_against_loss(objects, records)
    await ensure_stream(jetstream)
    await lifespan.enter(Journal(records, objects))
    await lifespan.enter(Announcer(records, event_for, source="luthier.gateway"))
    keys = await lifespan.enter(Collection(records, api_key_pb2.ApiKey, API_KEY))
    await ensure_bootstrap_key(keys, settings.bootstrap_api_key.get_secret_value())
    return keys


def _forward_all(
    server: RpcServer, *, dataset: Channel, trainer: Channel, inference: Channel
) -> None:
    for channel, services in (
        (dataset, DATASET_SERVICES),
        (trainer, TRAINER_SERVICES),
        (inference, INFERENCE_SERVICES),
    ):
        for service in services:
            forward(service, channel, server)
