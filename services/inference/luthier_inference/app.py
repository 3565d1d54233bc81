"""The composition root of the inference service."""

from __future__ import annotations

from luthier.inference.v1 import (
    adapter_service_pb2,
    base_model_service_pb2,
    generation_service_pb2,
)
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2_grpc import add_AdapterServiceServicer_to_server
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.base_model_service_pb2_grpc import add_BaseModelServiceServicer_to_server
from luthier.inference.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
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
from luthier_common.rpc.server import RpcServer

from luthier_inference.adapters import ADAPTER, Adapters
from luthier_inference.base_models import BaseModels, complete_older
from luthier_inference.engine_pool import EnginePool, keep_warm
from luthier_inference.engines.fleets import configured_fleets
from luthier_inference.events import event_for
from luthier_inference.metrics import Metrics
from luthier_inference.origins import BASE_MODEL
from luthier_inference.prober import Prober
from luthier_inference.router import Router
from luthier_inference.settings import InferenceSettings


async def build(settings: InferenceSettings, lifespan: Lifespan) -> RpcServer:
    """Wire the inference service and open it; returns the server, for its address."""
    metrics = Metrics(lifespan.registry)
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    objects = await open_object_store(
        settings.objects_url,
        access_key=settings.objects_access_key,
        secret_key=settings.objects_secret_key.get_secret_value(),
    )
    blobs = Blobs(objects)
    nats = await lifespan.enter(open_nats(settings.nats_url, name="inference"))
    stream = nats.jetstream()
    records = await open_records(stream, "inference")
    await guard_against_loss(objects, records)
    await ensure_stream(stream)
    await lifespan.enter(Journal(records, objects))
    await lifespan.enter(Announcer(records, event_for, source="luthier.inference"))
    base_models = await lifespan.enter(Collection(records, BaseModel, BASE_MODEL))
    adapters = await lifespan.enter(Collection(records, Adapter, ADAPTER))
    await complete_older(base_models)

    fleets = configured_fleets(settings, signer, blobs)
    engines = await lifespan.enter(EnginePool(fleets, limit=settings.max_engines, metrics=metrics))
    lifespan.spawn(keep_warm(engines, base_models, settings.preload_models), name="keep warm")

    registry = Adapters(adapters, base_models, blobs, engines)
    lifespan.spawn(registry.pin_again(), name="pin again")
    prober = Prober(adapters, base_models, engines)
    lifespan.spawn(prober.follow_published(), name="probes of what is published")
    lifespan.spawn(prober.follow_asked(), name="probes of what is asked")

    server = RpcServer(
        settings.grpc_address,
        authenticate=signer.authenticate,
        metrics=RpcMetrics(lifespan.registry),
        drain_seconds=settings.drain_seconds,
    )
    server.add_service(
        BaseModels(base_models, adapters, blobs),
        add_BaseModelServiceServicer_to_server,
        base_model_service_pb2.DESCRIPTOR.services_by_name["BaseModelService"],
    )
    server.add_service(
        registry,
        add_AdapterServiceServicer_to_server,
        adapter_service_pb2.DESCRIPTOR.services_by_name["AdapterService"],
    )
    server.add_service(
        Router(base_models, adapters, engines, prober, metrics),
        add_GenerationServiceServicer_to_server,
        generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    )
    return await lifespan.enter(server)
