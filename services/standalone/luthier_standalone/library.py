"""Base models: imported into the platform's library, listed by their public ids."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.base_model_service_pb2 import (
    CreateBaseModelRequest,
    ListBaseModelsRequest,
)
from luthier_common.errors import InvalidArgument
from luthier_common.identity import LIBRARY
from luthier_common.names import check_id, format_name, id_of
from luthier_common.objects.blobs import Blobs
from luthier_common.settings import load
from luthier_inference.importer import import_base_model

from luthier_standalone.backends import Backends
from luthier_standalone.data_dir import Connection, DataDir
from luthier_standalone.gateway import Gateway

_VERIFY_SECONDS = 3600.0
"""The service reads every byte again before it answers."""
STARTER_ID = "luthier-starter"
_STARTER = Path(__file__).parents[3] / "models" / "starter"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A Hugging Face model in a folder, and the id it gets."""

    path: Path
    model_id: str


def starter() -> Snapshot:
    """Return the model shipped with the source; InvalidArgument outside a checkout."""
    if not _STARTER.is_dir():
        raise InvalidArgument(
            "this installation ships no starter model; name one with --model PATH=ID",
            reason="NO_STARTER_MODEL",
        )
    return Snapshot(_STARTER, STARTER_ID)


def parse_model(text: str) -> Snapshot:
    """Read `PATH` or `PATH=ID`; the folder's name is the id of a bare path."""
    path, equals, model_id = text.rpartition("=")
    if not equals:
        path, model_id = text, re.sub(r"[^a-z0-9]+", "-", Path(text).name.lower()).strip("-")
    return Snapshot(Path(path), check_id(model_id, field="--model"))


def base_model_name(model_id: str) -> str:
    """Return the resource name of a library model."""
    return format_name(
        "projects/{project}/baseModels/{base_model}", project=LIBRARY, base_model=model_id
    )


async def import_snapshot(gateway: Gateway, data: DataDir, snapshot: Snapshot) -> BaseModel:
    """Store a model's files and register them; the same bytes again change nothing.

    InvalidArgument if the folder holds no model; AlreadyExists if the id has other bytes.
    """
    model_id = check_id(snapshot.model_id, field="--id")
    blobs = Blobs(await load(Backends).open_objects(data))
    model = await import_base_model(snapshot.path, blobs, LIBRARY)
    request = CreateBaseModelRequest(
        parent=f"projects/{LIBRARY}", base_model=model, base_model_id=model_id
    )
    return await gateway.base_models.CreateBaseModel(request, timeout=_VERIFY_SECONDS)


async def public_models(gateway: Gateway) -> tuple[str, ...]:
    """Return the ids of the library's models, oldest first."""
    request = ListBaseModelsRequest(
        parent=f"projects/{LIBRARY}", page_size=1000, order_by="create_time"
    )
    listed = await gateway.base_models.ListBaseModels(request)
    return tuple(id_of(model.name) for model in listed.base_models)


async def refresh(gateway: Gateway, data: DataDir, connection: Connection) -> None:
    """Write the library's present models into `connection.json`."""
    data.publish(replace(connection, models=await public_models(gateway)))
