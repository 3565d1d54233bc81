"""The API of adapters."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from luthier.inference.v1 import adapter_service_pb2 as api
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2_grpc import AdapterServiceServicer
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import (
    AlreadyExists,
    NotFound,
    not_found,
)
from luthier_common.names import check_id, format_name, project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.paging import coerce_page_size
from luthier_common.records.collection import Collection

from luthier_inference.base_models import PAGE_SIZE
from luthier_inference.digests import adapter_digest
from luthier_inference.lora_config import read_lora_config
from luthier_inference.model_facts import is_seq2seq
from luthier_inference.origins import check_origin, check_same
from luthier_inference.snapshots import Snapshot, verify

ADAPTER = "projects/{project}/adapters/{adapter}"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_ALLOWED = {WEIGHTS, CONFIG, "README.md"}


def is_live(adapter: Adapter) -> bool:
    """Whether it has not been deleted."""
    return not adapter.HasField("delete_time")


class Adapters(AdapterServiceServicer):
    """Keeps adapters. A deleted one stays as a tombstone, so that its name is never given again."""

    def __init__(
        self, records: Collection[Adapter], base_models: Collection[BaseModel], blobs: Blobs
    ) -> None:
        self._records = records
        self._base_models = base_models
        self._blobs = blobs

    async def CreateAdapter(self, request: api.CreateAdapterRequest, context: Any) -> Adapter:
        """Publish an adapter after verifying its files and its base."""
        project = project_of(request.parent, field="parent")
        adapter_id = check_id(request.adapter_id, field="adapter_id")
        name = format_name(ADAPTER, project=project, adapter=adapter_id)
        wanted = request.adapter
        base = await check_origin(self._base_models, project, wanted, field="adapter")
        check_same(base, "tokenizer_digest", wanted.tokenizer_digest)
        snapshot = await verify(
            self._blobs,
            project,
            wanted.files,
            field="adapter.files",
            allowed=_ALLOWED.__contains__,
        )
        _check_contents(snapshot, seq2seq=is_seq2seq(base.architecture))
        wanted.digest = adapter_digest(wanted)
        wanted.ClearField("delete_time")
        try:
            created = await self._records.create(name, wanted)
        except AlreadyExists:
            return await self._existing(name, wanted.digest)
        await self._check_base_still_there(created)
        return created

    async def GetAdapter(self, request: api.GetAdapterRequest, context: Any) -> Adapter:
        """Return an adapter."""
        adapter = await self._records.get(request.name)
        if not is_live(adapter):
            raise not_found(request.name)
        return adapter

    async def ListAdapters(
        self, request: api.ListAdaptersRequest, context: Any
    ) -> api.ListAdaptersResponse:
        """List a project's adapters."""
        page = self._records.list(
            request.parent,
            where=is_live,
            order_by=request.order_by or "create_time desc",
            after=request.after or None,
            page_size=coerce_page_size(request.page_size, default=PAGE_SIZE),
            page_token=request.page_token,
        )
        return api.ListAdaptersResponse(adapters=page.items, next_page_token=page.next_page_token)

    async def DeleteAdapter(self, request: api.DeleteAdapterRequest, context: Any) -> Empty:
        """Delete an adapter."""
        await self._bury(request.name)
        return Empty()

    async def _bury(self, name: str) -> None:
        now = Timestamp()
        now.GetCurrentTime()

        def bury(adapter: Adapter) -> Adapter:
            if not is_live(adapter):
                raise not_found(name)
            adapter.delete_time.CopyFrom(now)
            return adapter

        await self._records.update(name, bury)

    async def _existing(self, name: str, digest: str) -> Adapter:
        existing = await self._records.get(name)
        if is_live(existing) and existing.digest == digest:
            return existing
        raise AlreadyExists(
            f"{name} is taken; names of adapters are never given again", reason="ADAPTER_EXISTS"
        )

    async def _check_base_still_there(self, adapter: Adapter) -> None:
        # A base deleted since `check_origin` did not see this adapter; both must not stand.
        try:
            await self._base_models.get(adapter.base_model)
        except NotFound:
            await self._bury(adapter.name)
            raise


def _check_contents(snapshot: Snapshot, *, seq2seq: bool) -> None:
    for path, found in ((CONFIG, snapshot.texts), (WEIGHTS, snapshot.tensors)):
        if path not in found:
            raise snapshot.refused(f"{path} is missing", "BAD_FILES")
    read_lora_config(snapshot.texts[CONFIG], seq2seq=seq2seq)
    others = sorted(name for name in snapshot.tensors[WEIGHTS].names if ".lora_" not in name)
    if others:
        message = f"{WEIGHTS} holds more than LoRA matrices: {others[0][:100]!r}"
        raise snapshot.refused(message, "UNSUPPORTED_ADAPTER")
