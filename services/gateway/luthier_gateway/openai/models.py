"""`/v1/models`: base models of the project and of the library, and what the project has tuned."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from luthier.inference.v1 import (
    adapter_pb2,
    adapter_service_pb2,
    base_model_pb2,
    base_model_service_pb2,
)
from luthier_common.errors import NotFound, PermissionDenied
from luthier_common.identity import LIBRARY
from luthier_common.names import id_of, project_of

from luthier_gateway.openai.names import (
    ADAPTERS,
    is_tuned,
    model_names,
    model_of_adapter,
    model_of_base,
)
from luthier_gateway.openai.pages import gather
from luthier_gateway.owners import Owners, caller_project
from luthier_gateway.requests import OwnersDependency

router = APIRouter()

_MOST = 100_000  # models of one project; nobody pages models, so all of them come at once

Model = base_model_pb2.BaseModel | adapter_pb2.Adapter


async def find(owners: Owners, model: str) -> Model | None:
    """Return what a public model name means to the caller; None when nothing.

    Names are taken literally: what a job made answers to its one full name only or, where it is
    a base model, also to its id, by which jobs and adapters tell what they began with.
    """
    for name in model_names(caller_project(), model):
        try:
            found = await _fetch(owners, name)
        except NotFound:
            continue
        if not is_tuned(model) or public_name(found) == model:
            return found
    return None


async def get(owners: Owners, model: str) -> Model:
    """Return what a public model name means to the caller; NotFound for the `model` given."""
    found = await find(owners, model)
    if found is None:
        raise NotFound(
            f"The model '{model}' does not exist", reason="MODEL_NOT_FOUND", field="model"
        )
    return found


@router.get("/models")
async def list_models(owners: OwnersDependency) -> dict[str, Any]:
    """List every model that the caller can ask."""
    project = caller_project()
    own = await _base_models(owners, project)
    shared = await _base_models(owners, LIBRARY) if project != LIBRARY else []
    hidden = {id_of(model.name) for model in own}
    bases = own + [model for model in shared if id_of(model.name) not in hidden]
    models: list[Model] = [*bases, *await _adapters(owners, project)]
    return {"object": "list", "data": [to_model(model) for model in models]}


@router.get("/models/{model:path}")
async def retrieve_model(model: str, owners: OwnersDependency) -> dict[str, Any]:
    """Return one model."""
    return to_model(await get(owners, model))


@router.delete("/models/{model:path}")
async def delete_model(model: str, owners: OwnersDependency) -> dict[str, Any]:
    """Delete a tuned model, or a base model of the project."""
    found = await get(owners, model)
    if isinstance(found, adapter_pb2.Adapter):
        await owners.adapters.DeleteAdapter(
            adapter_service_pb2.DeleteAdapterRequest(name=found.name)
        )
    elif project_of(found.name) != caller_project():
        raise PermissionDenied(
            f"The model '{model}' is shared by all projects and cannot be deleted by one",
            reason="MODEL_SHARED",
        )
    else:
        await owners.base_models.DeleteBaseModel(
            base_model_service_pb2.DeleteBaseModelRequest(name=found.name)
        )
    return {"id": model, "object": "model", "deleted": True}


def public_name(model: Model) -> str:
    """Return the name that the caller knows a model by."""
    if isinstance(model, adapter_pb2.Adapter):
        return model_of_adapter(model)
    return model_of_base(model)


def to_model(model: Model) -> dict[str, Any]:
    """Return a model as OpenAI shows it.

    Of a tuned one, `parent` is the base and `held` says why it is not served, where it is not.
    """
    shown = {
        "id": public_name(model),
        "object": "model",
        "created": model.create_time.seconds,
        "owned_by": project_of(model.name),
    }
    origin = model if isinstance(model, adapter_pb2.Adapter) else model.tuning_origin
    if origin.base_model:
        shown["parent"] = id_of(origin.base_model)
    if origin.hold_reason:
        shown["held"] = origin.hold_reason
    return shown


async def _fetch(owners: Owners, name: str) -> Model:
    if f"/{ADAPTERS}/" in name:
        return await owners.adapters.GetAdapter(adapter_service_pb2.GetAdapterRequest(name=name))
    return await owners.base_models.GetBaseModel(
        base_model_service_pb2.GetBaseModelRequest(name=name)
    )


async def _base_models(owners: Owners, project: str) -> list[base_model_pb2.BaseModel]:
    async def fetch(size: int, token: str) -> tuple[list[base_model_pb2.BaseModel], str]:
        found = await owners.base_models.ListBaseModels(
            base_model_service_pb2.ListBaseModelsRequest(
                parent=f"projects/{project}", page_size=size, page_token=token
            )
        )
        return list(found.base_models), found.next_page_token

    return (await gather(fetch, _MOST))[0]


async def _adapters(owners: Owners, project: str) -> list[adapter_pb2.Adapter]:
    async def fetch(size: int, token: str) -> tuple[list[adapter_pb2.Adapter], str]:
        found = await owners.adapters.ListAdapters(
            adapter_service_pb2.ListAdaptersRequest(
                parent=f"projects/{project}", page_size=size, page_token=token
            )
        )
        return list(found.adapters), found.next_page_token

    return (await gather(fetch, _MOST))[0]
