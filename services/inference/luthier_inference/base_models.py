"""The API of base models."""

from __future__ import annotations

import contextlib
from typing import Any

from google.protobuf.empty_pb2 import Empty
from luthier.inference.v1 import base_model_service_pb2 as api
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel, TuningOrigin
from luthier.inference.v1.base_model_service_pb2_grpc import BaseModelServiceServicer
from luthier_common.errors import AlreadyExists, FailedPrecondition, NotFound, PermissionDenied
from luthier_common.identity import Role, current_identity
from luthier_common.names import check_id, format_name, project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.paging import coerce_page_size
from luthier_common.records.collection import Collection

from luthier_inference.digests import base_model_digest
from luthier_inference.model_facts import is_allowed, read_facts
from luthier_inference.origins import BASE_MODEL, check_origin
from luthier_inference.snapshots import verify

PAGE_SIZE = 100
"""Entries of a page where the request does not say."""


class BaseModels(BaseModelServiceServicer):
    """Keeps base models."""

    def __init__(
        self, records: Collection[BaseModel], adapters: Collection[Adapter], blobs: Blobs
    ) -> None:
        self._records = records
        self._adapters = adapters
        self._blobs = blobs

    async def CreateBaseModel(self, request: api.CreateBaseModelRequest, context: Any) -> BaseModel:
        """Register a snapshot after verifying every file of it."""
        project = project_of(request.parent, field="parent")
        base_id = check_id(request.base_model_id, field="base_model_id")
        name = format_name(BASE_MODEL, project=project, base_model=base_id)
        origin = await self._origin(project, request.base_model)
        files = sorted(request.base_model.files, key=lambda file: file.path)
        snapshot = await verify(
            self._blobs, project, files, field="base_model.files", allowed=is_allowed
        )
        facts = read_facts(snapshot)
        wanted = BaseModel(
            display_name=request.base_model.display_name,
            files=files,
            digest=base_model_digest(files),
            tokenizer_digest=facts.tokenizer_digest,
            architecture=facts.architecture,
            parameter_count=facts.parameter_count,
            context_tokens=facts.context_tokens,
            lora_parameters_per_rank=facts.lora_parameters_per_rank,
            has_chat_template=facts.has_chat_template,
            tuning_origin=origin,
        )
        try:
            return await self._records.create(name, wanted)
        except AlreadyExists:
            return await self._existing(name, wanted)

    async def _origin(self, project: str, given: BaseModel) -> TuningOrigin | None:
        if not given.HasField("tuning_origin"):
            return None
        if current_identity().role < Role.SERVICE:
            raise PermissionDenied(
                "base_model.tuning_origin is evidence that only the trainer gives; leave it out",
                reason="ROLE_TOO_LOW",
            )
        field = "base_model.tuning_origin"
        await check_origin(self._records, project, given.tuning_origin, field=field)
        return given.tuning_origin

    async def _existing(self, name: str, wanted: BaseModel) -> BaseModel:
        existing = await self._records.get(name)
        if existing.digest != wanted.digest:
            what = "other bytes"
        elif _origin_bytes(existing) != _origin_bytes(wanted):
            what = "another tuning_origin"
        else:
            return existing
        message = f"{name} exists with {what}; import these under another id"
        raise AlreadyExists(message, reason="BASE_MODEL_EXISTS")

    async def GetBaseModel(self, request: api.GetBaseModelRequest, context: Any) -> BaseModel:
        """Return a base model."""
        return await self._records.get(request.name)

    async def ListBaseModels(
        self, request: api.ListBaseModelsRequest, context: Any
    ) -> api.ListBaseModelsResponse:
        """List a project's base models."""
        page = self._records.list(
            request.parent,
            order_by=request.order_by or "create_time desc",
            after=request.after or None,
            page_size=coerce_page_size(request.page_size, default=PAGE_SIZE),
            page_token=request.page_token,
        )
        return api.ListBaseModelsResponse(
            base_models=page.items, next_page_token=page.next_page_token
        )

    async def DeleteBaseModel(self, request: api.DeleteBaseModelRequest, context: Any) -> Empty:
        """Delete a base model that no adapter of any project needs."""
        await self._records.delete(request.name, check=self._check_unneeded)
        return Empty()

    def _check_unneeded(self, base: BaseModel) -> None:
        needed = [
            adapter
            for adapter in self._adapters.values()
            if adapter.base_model == base.name and not adapter.HasField("delete_time")
        ]
        if needed:
            raise FailedPrecondition(
                f"{base.name} is needed by {len(needed)} adapters; delete them first",
                reason="BASE_MODEL_IN_USE",
            )


def _origin_bytes(base: BaseModel) -> bytes:
    # Messages with a NaN in them are not equal to themselves.
    return base.tuning_origin.SerializeToString(deterministic=True)


async def complete_older(records: Collection[BaseModel]) -> None:
    """Say of records older than `has_chat_template` that theirs is there: no other was let in."""

    def with_template(base: BaseModel) -> BaseModel | None:
        if base.HasField("has_chat_template"):
            return None
        base.has_chat_template = True
        return base

    for base in records.values():
        if not base.HasField("has_chat_template"):
            with contextlib.suppress(NotFound):
                await records.update(base.name, with_template)
