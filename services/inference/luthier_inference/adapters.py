"""The API of adapters."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from luthier.inference.v1 import adapter_service_pb2 as api
from luthier.inference.v1.adapter_pb2 import Adapter, AdapterLineage
from luthier.inference.v1.adapter_service_pb2_grpc import AdapterServiceServicer
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import HoldAdapterRequest, HoldAdapterResponse
from luthier_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlatformError,
    not_found,
)
from luthier_common.names import check_id, format_name, parent_of, project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.paging import coerce_page_size
from luthier_common.records.collection import Collection

from luthier_inference.adapter_checks import HEADER_LIMIT, WEIGHTS, check_adapter
from luthier_inference.base_layers import BaseLayers
from luthier_inference.base_models import PAGE_SIZE
from luthier_inference.digests import adapter_digest
from luthier_inference.lineage import trace
from luthier_inference.model_facts import is_seq2seq
from luthier_inference.origins import check_origin, check_same
from luthier_inference.snapshots import verify

ADAPTER = "projects/{project}/adapters/{adapter}"
CONFIG = "adapter_config.json"
_FILES_LIMIT = 4 * 1024**3
"""The most bytes of an adapter's files together; engines hold them in memory."""
PROBE = "probe.json"
"""Rows as tuning read them, which an engine compares with what it makes of them."""
_ALLOWED = {WEIGHTS, CONFIG, PROBE, "README.md"}

logger = logging.getLogger(__name__)


class Holder(Protocol):
    """The engines, as far as they hold adapters in memory."""

    async def hold(self, base: BaseModel, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Load, pin, unpin or unload an adapter where the base model is served.

        Unavailable, ResourceExhausted when there is no room, FailedPrecondition where an engine
        cannot.
        """
        ...


def is_live(adapter: Adapter) -> bool:
    """Whether it has not been deleted."""
    return not adapter.HasField("delete_time")


def state_of(adapter: Adapter) -> Adapter.State:
    """Return whether an adapter is served; the record holds only why it is not."""
    diverges = bool(adapter.probe_results) and not adapter.probe_results[-1].passed
    return Adapter.HELD if adapter.hold_reason or diverges else Adapter.READY


class Adapters(AdapterServiceServicer):
    """Keeps adapters. A deleted one stays as a tombstone, so that its name is never given again."""

    def __init__(
        self,
        records: Collection[Adapter],
        base_models: Collection[BaseModel],
        blobs: Blobs,
        engines: Holder,
    ) -> None:
        self._records = records
        self._base_models = base_models
        self._blobs = blobs
        self._engines = engines
        self._layers = BaseLayers(blobs)

    async def CreateAdapter(self, request: api.CreateAdapterRequest, context: Any) -> Adapter:
        """Publish an adapter after verifying its files and its base."""
        project = project_of(request.parent, field="parent")
        adapter_id = check_id(request.adapter_id, field="adapter_id")
        name = format_name(ADAPTER, project=project, adapter=adapter_id)
        wanted = request.adapter
        base = await check_origin(self._base_models, project, wanted, field="adapter")
        check_same(base, "tokenizer_digest", wanted.tokenizer_digest)
        await self._check_files(project, base, wanted)
        wanted.digest = adapter_digest(wanted)
        for field in ("delete_time", "pinned", "state", "probe_results"):
            wanted.ClearField(field)
        try:
            created = await self._records.create(name, wanted)
        except AlreadyExists:
            return _shown(await self._existing(name, wanted.digest))
        await self._check_base_still_there(created)
        return _shown(created)

    async def GetAdapter(self, request: api.GetAdapterRequest, context: Any) -> Adapter:
        """Return an adapter."""
        return _shown(await self._live(request.name))

    async def ListAdapters(
        self, request: api.ListAdaptersRequest, context: Any
    ) -> api.ListAdaptersResponse:
        """List a project's adapters."""

        def wanted(adapter: Adapter) -> bool:
            return (
                is_live(adapter)
                and request.base_model in ("", adapter.base_model)
                and request.state in (Adapter.STATE_UNSPECIFIED, state_of(adapter))
            )

        page = self._records.list(
            request.parent,
            where=wanted,
            query=f"base_model={request.base_model} state={request.state}",
            order_by=request.order_by or "create_time desc",
            after=request.after or None,
            page_size=coerce_page_size(request.page_size, default=PAGE_SIZE),
            page_token=request.page_token,
        )
        return api.ListAdaptersResponse(
            adapters=map(_shown, page.items), next_page_token=page.next_page_token
        )

    async def GetAdapterLineage(
        self, request: api.GetAdapterLineageRequest, context: Any
    ) -> AdapterLineage:
        """Return where an adapter comes from, and what came of it."""
        adapter = await self._live(request.name)
        return await trace(
            adapter, self._records.values(parent_of(adapter.name)), self._base_models
        )

    async def PinAdapter(self, request: api.PinAdapterRequest, context: Any) -> Adapter:
        """Have engines keep an adapter in memory; what they have no room for is not recorded."""
        adapter = await self._live(request.name)
        if adapter.hold_reason:
            message = f"{adapter.name} is kept but not served: {adapter.hold_reason}"
            raise FailedPrecondition(message, reason="ADAPTER_HELD", field="name")
        await self._hold(adapter, HoldAdapterRequest.PINNED)
        try:
            return await self._set_pinned(adapter.name, pinned=True)
        except NotFound:  # deleted meanwhile
            await self._hold(adapter, HoldAdapterRequest.UNLOADED)
            raise

    async def UnpinAdapter(self, request: api.UnpinAdapterRequest, context: Any) -> Adapter:
        """Let an adapter come and go like others."""
        adapter = await self._set_pinned(request.name, pinned=False)
        await self._hold(adapter, HoldAdapterRequest.UNPINNED)
        return adapter

    async def UnloadAdapter(self, request: api.UnloadAdapterRequest, context: Any) -> Adapter:
        """Have engines take an adapter out of memory."""
        adapter = await self._live(request.name)
        if adapter.pinned:
            message = f"{adapter.name} is pinned; unpin it first"
            raise FailedPrecondition(message, reason="ADAPTER_PINNED", field="name")
        await self._hold(adapter, HoldAdapterRequest.UNLOADED)
        return _shown(adapter)

    async def DeleteAdapter(self, request: api.DeleteAdapterRequest, context: Any) -> Empty:
        """Delete an adapter."""
        buried = await self._bury(request.name)
        try:
            await self._hold(buried, HoldAdapterRequest.UNLOADED)
        except PlatformError as error:
            # It is gone all the same: nobody can ask for it, and others will take its room.
            extra = {"adapter": buried.name, "detail": error.message}
            logger.warning("a deleted adapter was not unloaded", extra=extra)
        return Empty()

    async def pin_again(self) -> None:
        """Have engines that start anew hold what is pinned; a failure is only logged."""
        for adapter in self._records.values():
            if is_live(adapter) and adapter.pinned:
                try:
                    await self._hold(adapter, HoldAdapterRequest.PINNED)
                except PlatformError as error:
                    extra = {"adapter": adapter.name, "detail": error.message}
                    logger.error("a pinned adapter is not held", extra=extra)

    async def _live(self, name: str) -> Adapter:
        adapter = await self._records.get(name)
        if not is_live(adapter):
            raise not_found(name)
        return adapter

    async def _check_files(self, project: str, base: BaseModel, wanted: Adapter) -> None:
        size = sum(file.size_bytes for file in wanted.files)
        if size > _FILES_LIMIT:
            message = f"the adapter has {size} bytes, at most {_FILES_LIMIT} are served"
            raise InvalidArgument(message, reason="ADAPTER_TOO_LARGE", field="adapter.files")
        snapshot = await verify(
            self._blobs,
            project,
            wanted.files,
            field="adapter.files",
            allowed=_ALLOWED.__contains__,
            finite=True,
            header_limit=HEADER_LIMIT,
        )
        for path, found in ((CONFIG, snapshot.texts), (WEIGHTS, snapshot.tensors)):
            if path not in found:
                raise snapshot.refused(f"{path} is missing", "BAD_FILES")
        check_adapter(
            snapshot.texts[CONFIG],
            snapshot.tensors[WEIGHTS],
            await self._layers.of(base),
            seq2seq=is_seq2seq(base.architecture),
        )

    async def _hold(self, adapter: Adapter, hold: HoldAdapterRequest.Hold) -> None:
        request = HoldAdapterRequest(parent=parent_of(adapter.name), adapter=adapter, hold=hold)
        try:
            base = await self._base_models.get(adapter.base_model)
        except NotFound:
            return  # one that is gone, since nobody needs it, has no engine
        await self._engines.hold(base, request)

    async def _set_pinned(self, name: str, *, pinned: bool) -> Adapter:
        def change(adapter: Adapter) -> Adapter | None:
            if not is_live(adapter):
                raise not_found(name)
            if adapter.pinned == pinned:
                return None
            adapter.pinned = pinned
            return adapter

        return _shown(await self._records.update(name, change))

    async def _bury(self, name: str) -> Adapter:
        now = Timestamp()
        now.GetCurrentTime()

        def bury(adapter: Adapter) -> Adapter:
            if not is_live(adapter):
                raise not_found(name)
            adapter.delete_time.CopyFrom(now)
            return adapter

        return await self._records.update(name, bury)

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


def _shown(adapter: Adapter) -> Adapter:
    adapter.state = state_of(adapter)
    return adapter
