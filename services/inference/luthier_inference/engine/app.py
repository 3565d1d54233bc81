"""The composition root of an engine."""

from __future__ import annotations

import asyncio
import json
from typing import TextIO

from google.protobuf.json_format import Parse
from luthier.inference.v1 import engine_service_pb2
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2_grpc import add_EngineServiceServicer_to_server
from luthier_common.errors import PlatformError
from luthier_common.identity import IdentitySigner
from luthier_common.lifespan import Lifespan
from luthier_common.metrics import RpcMetrics
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.open import open_object_store
from luthier_common.rpc.server import RpcServer

from luthier_inference.engine.adapter_files import AdapterFiles
from luthier_inference.engine.base_files import fetch_base_model
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.engine.model import Model, load_model
from luthier_inference.engine.prompts import Tokenizer
from luthier_inference.engine.scheduler import ROWS, Scheduler
from luthier_inference.engine.service import EngineService
from luthier_inference.engine.settings import EngineSettings

ADAPTERS = 2 * ROWS
"""Most adapters in memory: a batch may need as many as it has rows."""


async def build(settings: EngineSettings, lifespan: Lifespan, *, answer: TextIO) -> None:
    """Load the base model and serve it; writes one line about that to `answer`."""
    try:
        server = await _serve(settings, lifespan)
    except PlatformError as error:
        _say(answer, error=error.message)
        raise
    except Exception as error:
        # transformers has no error class of its own for a model that it cannot load.
        _say(answer, error=f"the model cannot be loaded: {error}"[:1000])
        raise
    _say(answer, address=server.address)


def _say(answer: TextIO, **line: str) -> None:
    print(json.dumps(line), file=answer, flush=True)


async def _serve(settings: EngineSettings, lifespan: Lifespan) -> RpcServer:
    base = Parse(settings.engine_base_model, BaseModel(), ignore_unknown_fields=True)
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    blobs = Blobs(
        await open_object_store(
            settings.objects_url,
            access_key=settings.objects_access_key,
            secret_key=settings.objects_secret_key.get_secret_value(),
        )
    )
    folder = await fetch_base_model(blobs, base, settings.work_dir / "base-models")
    loaded = await asyncio.to_thread(load_model, folder, settings.engine_precision)
    tokenizer = await asyncio.to_thread(Tokenizer, folder, base.context_tokens)
    scheduler = Scheduler(
        Model(loaded, limit=ADAPTERS),
        tokenizer.end_tokens(loaded),
        EngineMetrics(lifespan.registry),
    )
    lifespan.spawn(scheduler.run(), name="scheduler")
    server = RpcServer(
        settings.grpc_address,
        authenticate=signer.authenticate,
        metrics=RpcMetrics(lifespan.registry),
        drain_seconds=settings.drain_seconds,
    )
    server.add_service(
        EngineService(base, tokenizer, AdapterFiles(blobs, base, limit=ADAPTERS), scheduler),
        add_EngineServiceServicer_to_server,
        engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
    )
    return await lifespan.enter(server)
