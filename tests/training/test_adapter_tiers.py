"""Adapters in an engine's memory and on its disk: each bounded, those unused for longest leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import DataLoss, ResourceExhausted
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_inference.base_layers import BaseLayers
from luthier_inference.engine.adapter_files import AdapterFiles, Tiers
from luthier_inference.engine.metrics import EngineMetrics
from prometheus_client import CollectorRegistry

from tests.support.stored_adapters import store_adapter, store_base
from tests.support.tiny_architectures import save_architecture
from tests.training.test_engine_equality import save_adapter

COUNT = 6


@dataclass(frozen=True)
class Shelf:
    """A store with a base model and adapters of one size."""

    blobs: Blobs
    base: BaseModel
    layers: Mapping[str, tuple[int, int]]
    adapters: list[Adapter]
    folder: Path
    held_bytes: int
    """Of one adapter in memory."""
    saved_bytes: int
    """Of one adapter's files."""

    def files(self, *, host: float, disk: float) -> AdapterFiles:
        """Return what holds as many adapters in memory, and on the disk."""
        return AdapterFiles(
            self.blobs,
            self.base,
            self.layers,
            self.folder,
            EngineMetrics(CollectorRegistry()),
            dtype=torch.float32,
            tiers=Tiers(int(host * self.held_bytes), int(disk * self.saved_bytes)),
        )

    def on_disk(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    saved = save_architecture("llama", tmp_path / "base")
    blobs = Blobs(DirectoryObjects(tmp_path / "store"))
    base = await store_base(blobs, saved)
    adapters = [
        await store_adapter(
            blobs, save_adapter(saved, tmp_path / f"a{number}", seed=number, rank=4)
        )
        for number in range(COUNT)
    ]
    layers = await BaseLayers(blobs).of(base)
    shelf = Shelf(blobs, base, layers, adapters, tmp_path / "disk", 1, 1)
    weights = await shelf.files(host=1e9, disk=1e9).get("acme", adapters[0])
    size = sum(file.size_bytes for file in adapters[0].files)
    held = Shelf(blobs, base, layers, adapters, tmp_path / "engine", weights.size_bytes, size + 16)
    held.folder.mkdir()
    return held


async def test_each_tier_keeps_the_adapters_used_last(shelf: Shelf) -> None:
    files = shelf.files(host=2, disk=4)
    digests = [adapter.digest for adapter in shelf.adapters]
    for adapter in shelf.adapters:
        await files.get("acme", adapter)
    assert files.in_memory == set(digests[-2:])
    assert shelf.on_disk() == set(digests[-4:])
    await files.get("acme", shelf.adapters[-2])  # used again: it outlives the one after it
    await files.get("acme", shelf.adapters[0])
    assert files.in_memory == {digests[-2], digests[0]}


async def test_an_adapter_on_the_disk_needs_no_store(shelf: Shelf) -> None:
    await shelf.files(host=1, disk=4).get("acme", shelf.adapters[0])
    for file in shelf.adapters[0].files:
        await shelf.blobs.delete("acme", file.sha256)
    started_again = shelf.files(host=1, disk=4)
    assert (await started_again.get("acme", shelf.adapters[0])).rank == 4
    weights = shelf.folder / shelf.adapters[0].digest / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataLoss):  # what the disk has made of it is fetched anew, or not used
        await shelf.files(host=1, disk=4).get("acme", shelf.adapters[0])


async def test_pinned_adapters_stay_and_take_half_of_the_room_at_most(shelf: Shelf) -> None:
    files = shelf.files(host=4, disk=5)
    for adapter in shelf.adapters[:2]:
        await files.get("acme", adapter)
        files.pin(adapter.digest)
    third = shelf.adapters[2]
    await files.get("acme", third)
    with pytest.raises(ResourceExhausted) as refused:
        files.pin(third.digest)
    assert refused.value.reason == "PINS_FULL"
    for adapter in shelf.adapters[2:]:
        await files.get("acme", adapter)
    assert files.in_memory > {adapter.digest for adapter in shelf.adapters[:2]}
    files.unpin(shelf.adapters[0].digest)
    files.pin(shelf.adapters[5].digest)
    files.drop(shelf.adapters[1].digest)
    assert files.pinned == {shelf.adapters[5].digest}
    assert shelf.adapters[1].digest not in files.in_memory | shelf.on_disk()
