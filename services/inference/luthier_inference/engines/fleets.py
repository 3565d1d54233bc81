"""From the settings to the fleet of each base model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import FailedPrecondition
from luthier_common.identity import IdentitySigner
from luthier_common.objects.blobs import Blobs

from luthier_inference.engines.adapter_folders import AdapterFolders
from luthier_inference.engines.configuration import ProcessEngines, TgiEngines, VllmEngines
from luthier_inference.engines.port import Engine, Fleet
from luthier_inference.engines.process import engine_environment, start_engine
from luthier_inference.engines.tgi import connect_tgi
from luthier_inference.engines.vllm import connect_vllm
from luthier_inference.settings import InferenceSettings


def configured_fleets(
    settings: InferenceSettings, signer: IdentitySigner, blobs: Blobs
) -> Callable[[BaseModel], Fleet]:
    """Return what says how a base model is served.

    FailedPrecondition for a base model that is not the one the servers were configured with.
    """
    folders: dict[Path, AdapterFolders] = {}

    async def start(base: BaseModel, place: str) -> Engine:
        return await start_engine(base, engine_environment(settings, base), signer)

    async def connect_to_vllm(config: VllmEngines, base: BaseModel, place: str) -> Engine:
        return await connect_vllm(base, place, config, blobs, folders_of(config))

    async def connect_to_tgi(config: TgiEngines, base: BaseModel, place: str) -> Engine:
        return await connect_tgi(base, place, config, blobs, folders_of(config))

    def folders_of(config: VllmEngines | TgiEngines) -> AdapterFolders:
        # One for all servers that share a folder: what one of them needs is not removed.
        path = (config.adapters_dir or settings.work_dir / "adapters").absolute()
        return folders.setdefault(path, AdapterFolders(blobs, path))

    def fleet_of(base: BaseModel) -> Fleet:
        config = settings.engines.get(base.name) or ProcessEngines()
        if isinstance(config, ProcessEngines):
            places = tuple(map(str, range(config.replicas)))
            precision = settings.engine_precision
            return Fleet(start, places, config.max_calls, local=True, precision=precision)
        if config.base_model_digest not in ("", base.digest):
            raise FailedPrecondition(
                f"the servers of {base.name} are configured with another digest of it",
                reason="ENGINE_BASE_MISMATCH",
                field="model",
            )
        places = tuple(map(str, config.urls))
        if isinstance(config, VllmEngines):
            connect = partial(connect_to_vllm, config)
        else:
            connect = partial(connect_to_tgi, config)
        return Fleet(connect, places, config.max_calls, local=False)

    return fleet_of
