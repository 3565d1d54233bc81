"""The composition root of an engine."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any, TextIO

import torch
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

from luthier_inference.engine.adapter_files import AdapterFiles, Tiers
from luthier_inference.engine.asking import Asker, ModelSigns
from luthier_inference.engine.base_files import fetch_base_model
from luthier_inference.engine.batcher import Batcher, Limits
from luthier_inference.engine.kv_cache import KeyValueCache
from luthier_inference.engine.loading import load_checked
from luthier_inference.engine.memory import cache_budget
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.engine.model import Model
from luthier_inference.engine.prefix_cache import PrefixCache
from luthier_inference.engine.prompts import Tokenizer
from luthier_inference.engine.prover import Prover
from luthier_inference.engine.scheduler import Scheduler
from luthier_inference.engine.service import EngineService
from luthier_inference.engine.settings import EngineSettings

_PREFIX_SHARE = 0.25
"""Of the memory for keys and values, for beginnings of prompts read before."""
_SOURCE_SHARE = 0.5
"""The same, for what an encoder has read, which its decoder looks at."""


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
    # Half the cores: the services need some, and small models slow down when threads wait for
    # each other (measured on 2 busy cores: 16 ms a step with one thread, 150 ms with two).
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(settings.engine_threads or max(1, cores // 2))
    folder = await fetch_base_model(blobs, base, settings.work_dir / "base-models")
    model = await asyncio.to_thread(
        load_checked,
        folder,
        settings.engine_precision,
        slots=settings.engine_adapter_slots,
        ranks=settings.engine_adapter_ranks,
    )
    tokenizer = await asyncio.to_thread(Tokenizer, folder, base.context_tokens)
    metrics = EngineMetrics(lifespan.registry)
    memory = Memory.of(model, settings.engine_cache_bytes)
    limits = Limits(rows=settings.engine_rows, waiting=settings.engine_waiting)
    scheduler = schedule(model, memory, metrics, limits)
    adapters = AdapterFiles(
        blobs,
        base,
        model.layers,
        settings.work_dir / "adapters",
        metrics,
        dtype=model.dtype,
        tiers=Tiers(settings.engine_host_bytes, settings.engine_disk_bytes),
    )
    await lifespan.enter(scheduler)
    server = RpcServer(
        settings.grpc_address,
        authenticate=signer.authenticate,
        metrics=RpcMetrics(lifespan.registry),
        drain_seconds=settings.drain_seconds,
    )
    told = signs(model, tokenizer, memory)
    prover = Prover(
        adapters,
        scheduler,
        settings.engine_precision,
        start=told.start,
        vocabulary=told.vocabulary_size,
    )
    server.add_service(
        EngineService(base, Asker(tokenizer, told), adapters, prover, scheduler),
        add_EngineServiceServicer_to_server,
        engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
    )
    return await lifespan.enter(server)


@dataclass(frozen=True)
class Memory:
    """What an engine keeps of requests."""

    cache: KeyValueCache
    prefixes: PrefixCache
    sources: KeyValueCache | None

    @classmethod
    def of(cls, model: Model, budget: int) -> Memory:
        """Divide `budget` bytes; 0 means a share of what is free."""
        budget = budget or cache_budget(model.device)
        share = _SOURCE_SHARE if model.encodes else _PREFIX_SHARE
        options: dict[str, Any] = {"dtype": model.cache_dtype, "device": model.device}
        cache = KeyValueCache(model.shapes, budget=int(budget * (1 - share)), **options)
        beside = int(budget * share)
        if model.encodes:
            sources = KeyValueCache(model.source_shapes, budget=beside, **options)
            return cls(cache, PrefixCache(budget=0, token_bytes=1), sources)
        return cls(cache, PrefixCache(budget=beside, token_bytes=cache.token_bytes), None)

    @property
    def room(self) -> int:
        """Most tokens of one row."""
        rooms = [cache.most_tokens for cache in (self.cache, self.sources) if cache is not None]
        return min(rooms)


def schedule(model: Model, memory: Memory, metrics: EngineMetrics, limits: Limits) -> Scheduler:
    """Return the scheduler of a model."""
    batcher = Batcher(
        model, memory.cache, memory.prefixes, metrics, sources=memory.sources, limits=limits
    )
    return Scheduler(batcher, waiting=limits.waiting, batch_tokens=limits.idle_tokens)


def signs(model: Model, tokenizer: Tokenizer, memory: Memory) -> ModelSigns:
    """Return what requests need to know of the model."""
    return ModelSigns(
        vocabulary_size=model.vocabulary_size,
        ends=tokenizer.end_tokens(model.base),
        start=model.start,
        room=memory.room,
    )
