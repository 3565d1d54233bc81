"""The adapters of one vLLM server: told to it on first use, under their digests."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier_common.errors import FailedPrecondition, ResourceExhausted
from luthier_common.rpc.status import RETRY_AFTER

from luthier_inference.engines.adapter_folders import AdapterFolders, check_limits
from luthier_inference.engines.server import Server

CANNOT_LOAD = "ENGINE_CANNOT_LOAD"
"""The reason where a server takes no adapter at all."""
_LOAD_SECONDS = 120.0


class VllmAdapters:
    """Loads, unloads and drains. A name is an adapter's digest, so it never means another one."""

    def __init__(self, server: Server, folders: AdapterFolders, *, limit: int, rank: int) -> None:
        self._server = server
        self._folders = folders
        self.limit = limit
        self._rank = rank
        self._held: OrderedDict[str, None] = OrderedDict()
        self._pinned: set[str] = set()
        self._uses: Counter[str] = Counter()
        self._unused = asyncio.Condition()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def held(self) -> frozenset[str]:
        """Digests of the adapters that the server knows."""
        return frozenset(self._held)

    def reconcile(self, cards: list[dict[str, Any]]) -> None:
        """Take what the server says it knows; others' adapters are none of ours."""
        for card in cards:
            digest = card["id"]
            if card.get("root") == str(self._folders.path(digest)):
                self._held[digest] = None
                self._folders.found(digest, self._server.url)

    @contextlib.asynccontextmanager
    async def use(self, adapter: Adapter) -> AsyncIterator[str]:
        """Give the name under which the server knows the adapter; it stays meanwhile.

        FailedPrecondition says why the server does not take it, DataLoss when a byte is wrong.
        """
        digest = adapter.digest
        async with self._locks[digest]:
            if digest not in self._held:
                await self._make_room()
                await self._load(adapter)
            self._uses[digest] += 1
        try:
            if digest in self._held:
                self._held.move_to_end(digest)
            yield digest
        finally:
            self._uses[digest] -= 1
            async with self._unused:
                self._unused.notify_all()

    def pin(self, digest: str) -> None:
        """Keep it from making room for others."""
        self._pinned.add(digest)

    def unpin(self, digest: str) -> None:
        """Let it make room for others again."""
        self._pinned.discard(digest)

    async def forget(self, digest: str) -> None:
        """Know that the server does not know it any more."""
        async with self._locks[digest]:
            self._held.pop(digest, None)

    async def unload(self, digest: str) -> None:
        """Take it off the server once its last answer has ended, and its files with it."""
        self._pinned.discard(digest)
        async with self._locks[digest]:
            async with self._unused:
                await self._unused.wait_for(lambda: not self._uses[digest])
            if digest in self._held:
                await self._post("/v1/unload_lora_adapter", {"lora_name": digest}, known=404)
                del self._held[digest]
            await self._folders.release(digest, self._server.url)

    async def _make_room(self) -> None:
        while len(self._held) >= self.limit:
            idle = (each for each in self._held if not self._uses[each])
            oldest = next((each for each in idle if each not in self._pinned), None)
            if oldest is None:
                raise ResourceExhausted(
                    "the engine's adapters are all in use; ask again later",
                    reason="ENGINE_BUSY",
                    metadata={RETRY_AFTER: "1"},
                )
            await self.unload(oldest)

    async def _load(self, adapter: Adapter) -> None:
        path = await self._folders.fetch(adapter, self._server.url)
        check_limits(adapter, path, self._rank)
        body = {"lora_name": adapter.digest, "lora_path": str(path)}
        # 400: loaded already, for instance by another router; the digest says what.
        response = await self._post("/v1/load_lora_adapter", body, known=400)
        if response.status_code == 400 and "already been loaded" not in response.text:
            raise self._refused(response, adapter.name)
        self._held[adapter.digest] = None

    async def _post(self, path: str, body: dict[str, str], *, known: int) -> httpx2.Response:
        async with self._server.asking():
            response = await self._server.client.post(path, json=body, timeout=_LOAD_SECONDS)
        if not response.is_success and response.status_code != known:
            raise self._refused(response, body["lora_name"])
        return response

    def _refused(self, response: httpx2.Response, name: str) -> FailedPrecondition:
        absent = response.status_code == 404 and '"error"' not in response.text
        if absent or "LoRA is not enabled" in response.text:
            return FailedPrecondition(
                "the vLLM server loads no adapters; start it with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
                reason=CANNOT_LOAD,
            )
        told = response.text[:500]
        return FailedPrecondition(
            f"the vLLM server does not take {name}: {told}; it must see adapters_dir under the "
            "same path",
            reason="ADAPTER_NOT_LOADED",
        )
