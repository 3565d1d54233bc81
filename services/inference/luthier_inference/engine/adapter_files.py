"""Adapters on their way from the store to the model: disk, then host memory, each bounded.

What is in memory was read from files whose digests make up the manifest's, at each load anew; the
device is `LoraBank`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    not_found,
)
from luthier_common.names import parse
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.folders import fetch_folder

from luthier_inference.adapter_checks import WEIGHTS, check_adapter
from luthier_inference.adapters import ADAPTER, CONFIG, PROBE
from luthier_inference.digests import adapter_digest
from luthier_inference.engine.conversion import as_lora
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.model_facts import is_seq2seq
from luthier_inference.tensors import header_bytes, read_header

_PROBE_BYTES = 16 << 20
_PINNED_SHARE = 0.5
"""Of memory and of the disk for adapters: what pinned ones may take."""


@dataclass(frozen=True)
class Tiers:
    """How much is kept."""

    host_bytes: int = 2 << 30
    disk_bytes: int = 20 << 30


@dataclass
class _Tier:
    """What is in a tier, by digest, the one not used for longest first; and its bytes."""

    limit: int
    sizes: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def use(self, digest: str, size: int, kept: frozenset[str]) -> list[str]:
        """Count one in as the last used; return those that leave, none of them in `kept`."""
        self.sizes[digest] = size
        self.sizes.move_to_end(digest)
        gone = []
        for other in list(self.sizes):
            if sum(self.sizes.values()) <= self.limit:
                break
            if other != digest and other not in kept:
                del self.sizes[other]
                gone.append(other)
        return gone

    def room_for(self, pinned: frozenset[str]) -> bool:
        """Whether so many may stay for good: the rest is for those that come and go."""
        held = sum(self.sizes.get(digest, 0) for digest in pinned)
        return held <= self.limit * _PINNED_SHARE


class AdapterFiles:
    """Fetches adapters of one base model and keeps those used last."""

    def __init__(
        self,
        blobs: Blobs,
        base: BaseModel,
        layers: Mapping[str, tuple[int, int]],
        folder: Path,
        metrics: EngineMetrics,
        *,
        dtype: torch.dtype,
        tiers: Tiers | None = None,
    ) -> None:
        """`layers` are inputs and outputs of the base's linear layers, by name.

        `folder` keeps files between starts; `dtype` is what the device computes in.
        """
        self._blobs = blobs
        self._base = base
        self._layers = layers
        self._folder = folder
        self._metrics = metrics
        self._dtype = dtype
        limits = tiers or Tiers()
        self._host = _Tier(limits.host_bytes)
        self._disk = _Tier(limits.disk_bytes)
        self._held: dict[str, LoraWeights] = {}
        self._loading: dict[str, asyncio.Task[LoraWeights]] = {}
        self._change = asyncio.Event()
        self.pinned: frozenset[str] = frozenset()
        """Digests that stay in memory."""
        self._find_on_disk()

    @property
    def in_memory(self) -> frozenset[str]:
        """Digests of the adapters in host memory."""
        return frozenset(self._held)

    async def get(self, project: str, adapter: Adapter) -> LoraWeights:
        """Return the adapter's weights.

        DataLoss when the manifest or a byte is not what its digest says, FailedPrecondition
        when it belongs to another base.
        """
        if parse(adapter.name, ADAPTER, field="adapter.name")["project"] != project:
            raise not_found(adapter.name)
        self._check_base(adapter)
        if adapter_digest(adapter) != adapter.digest:
            raise _damaged(adapter, "its manifest does not have its digest")
        held = self._held.get(adapter.digest)
        if held is not None:
            self._keep(held)
            return held
        task = self._loading.get(adapter.digest)
        if task is None:
            # A task of its own: one who leaves must not end what others wait for.
            task = asyncio.create_task(self._load(project, adapter))
            self._loading[adapter.digest] = task
            task.add_done_callback(lambda _: self._loading.pop(adapter.digest, None))
        return await asyncio.shield(task)

    async def probe(self, project: str, adapter: Adapter) -> bytes | None:
        """Return the bytes of an adapter's probe, verified; None where it has none; DataLoss."""
        file = next((file for file in adapter.files if file.path == PROBE), None)
        if file is None:
            return None
        return await self._blobs.read(project, file.sha256, max_bytes=_PROBE_BYTES)

    async def changed(self, timeout: float) -> None:
        """Wait until what is in memory changes, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._change.wait()

    def pin(self, digest: str) -> None:
        """Keep an adapter, which is in memory, there; ResourceExhausted when too many are."""
        pinned = self.pinned | {digest}
        if not (self._host.room_for(pinned) and self._disk.room_for(pinned)):
            raise ResourceExhausted(
                f"the pinned adapters of a base model may take {_PINNED_SHARE:.0%} of an engine's "
                f"{self._host.limit:,} bytes of memory and {self._disk.limit:,} bytes of disk for "
                "adapters; unpin others, or have both raised (LUTHIER_ENGINE_HOST_BYTES, "
                "LUTHIER_ENGINE_DISK_BYTES)",
                reason="PINS_FULL",
                field="name",
            )
        self.pinned = pinned

    def unpin(self, digest: str) -> None:
        """Let an adapter come and go again."""
        self.pinned -= {digest}

    def drop(self, digest: str) -> None:
        """Take an adapter out of memory and off the disk, pinned or not."""
        self.unpin(digest)
        self._held.pop(digest, None)
        self._tell()
        self._host.sizes.pop(digest, None)
        self._disk.sizes.pop(digest, None)
        shutil.rmtree(self._folder / digest, ignore_errors=True)

    def _check_base(self, adapter: Adapter) -> None:
        own = (self._base.digest, self._base.tokenizer_digest)
        if (adapter.base_model_digest, adapter.tokenizer_digest) != own:
            raise FailedPrecondition(
                f"{adapter.name} was tuned on another base model", reason="BASE_MODEL_MISMATCH"
            )

    async def _load(self, project: str, adapter: Adapter) -> LoraWeights:
        started = time.monotonic()
        try:
            weights = await self._read(project, adapter)
        except Exception:
            self._metrics.load_failures.inc()
            raise
        self._metrics.loads.observe(time.monotonic() - started)
        self._keep(weights)
        return weights

    async def _read(self, project: str, adapter: Adapter) -> LoraWeights:
        paths = {file.path for file in adapter.files}
        if not paths >= {CONFIG, WEIGHTS}:
            raise _damaged(adapter, f"it lacks {CONFIG} or {WEIGHTS}")
        target = self._folder / adapter.digest
        target.mkdir(parents=True, exist_ok=True)
        # Verified: the manifest has its digest, and each file that of the manifest.
        files = [(file.path, file.sha256) for file in adapter.files]
        await fetch_folder(self._blobs, project, files, target)
        size = sum(file.size_bytes for file in adapter.files)
        for gone in self._disk.use(adapter.digest, size, self.pinned):
            shutil.rmtree(self._folder / gone, ignore_errors=True)
        try:
            return await asyncio.to_thread(self._parse, adapter.digest, target)
        except (InvalidArgument, safetensors.SafetensorError, ValueError) as error:
            raise _damaged(adapter, str(error)) from error

    def _parse(self, digest: str, folder: Path) -> LoraWeights:
        # Read, not mapped: what is in memory must not change with the file.
        data = (folder / WEIGHTS).read_bytes()
        settings = check_adapter(
            (folder / CONFIG).read_bytes(),
            read_header(data[: header_bytes(data)], len(data)),
            self._layers,
            seq2seq=is_seq2seq(self._base.architecture),
        )
        pairs = as_lora(settings.method, safetensors.torch.load(data), self._dtype)
        rank = max(len(down) for down, _ in pairs.values())
        return LoraWeights(digest, rank, settings.scale, pairs)

    def _tell(self) -> None:
        """Wake those who wait for a change."""
        self._change.set()
        self._change = asyncio.Event()

    def _keep(self, weights: LoraWeights) -> None:
        if weights.digest not in self._held:
            self._tell()
        self._held[weights.digest] = weights
        for gone in self._host.use(weights.digest, weights.size_bytes, self.pinned):
            del self._held[gone]
        self._metrics.adapters.labels("host").set(len(self._held))
        self._metrics.adapters.labels("disk").set(len(self._disk.sizes))

    def _find_on_disk(self) -> None:
        """Count what an earlier engine has left, the oldest first."""
        if self._folder.is_dir():
            for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime):
                size = sum(file.stat().st_size for file in path.iterdir())
                for gone in self._disk.use(path.name, size, frozenset()):
                    shutil.rmtree(self._folder / gone, ignore_errors=True)


def _damaged(adapter: Adapter, why: str) -> DataLoss:
    return DataLoss(f"{adapter.name} cannot be loaded: {why}", reason="ADAPTER_DAMAGED")
