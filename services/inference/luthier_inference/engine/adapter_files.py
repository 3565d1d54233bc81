"""Adapters on their way from the store into the model: fetched by digest, verified, bounded."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import safetensors.torch
import torch
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import DataLoss, FailedPrecondition, InvalidArgument, not_found
from luthier_common.names import parse
from luthier_common.objects.blobs import Blobs

from luthier_inference.adapters import ADAPTER, CONFIG, WEIGHTS
from luthier_inference.digests import adapter_digest
from luthier_inference.lora_config import LoraSettings, read_lora_config

_BYTES_LIMIT = 4 * 1024**3


@dataclass(frozen=True, eq=False)
class AdapterWeights:
    """A verified adapter."""

    digest: str
    """Computed here, from the bytes that were loaded."""
    lora: LoraSettings
    tensors: dict[str, torch.Tensor]
    """By the name peft saved them under."""


class AdapterFiles:
    """Fetches adapters of one base model; the last `limit` stay in memory."""

    def __init__(self, blobs: Blobs, base: BaseModel, *, limit: int) -> None:
        self._blobs = blobs
        self._base = base
        self._limit = limit
        self._held: OrderedDict[str, AdapterWeights] = OrderedDict()
        self._fetching = asyncio.Lock()

    async def get(self, project: str, adapter: Adapter) -> AdapterWeights:
        """Return the adapter's weights.

        DataLoss when the manifest or a byte is not what its digest says, FailedPrecondition
        when it belongs to another base.
        """
        if parse(adapter.name, ADAPTER, field="adapter.name")["project"] != project:
            raise not_found(adapter.name)
        self._check_base(adapter)
        if adapter_digest(adapter) != adapter.digest:
            raise _damaged(adapter, "its manifest does not have its digest")
        async with self._fetching:
            held = self._held.get(adapter.digest)
            if held is None:
                held = await self._fetch(project, adapter)
                self._held[held.digest] = held
            self._held.move_to_end(held.digest)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
            return held

    def _check_base(self, adapter: Adapter) -> None:
        own = (self._base.digest, self._base.tokenizer_digest)
        if (adapter.base_model_digest, adapter.tokenizer_digest) != own:
            raise FailedPrecondition(
                f"{adapter.name} was tuned on another base model", reason="BASE_MODEL_MISMATCH"
            )

    async def _fetch(self, project: str, adapter: Adapter) -> AdapterWeights:
        """Read the files and rebuild the manifest from what was read."""
        loaded = Adapter()
        loaded.CopyFrom(adapter)
        contents: dict[str, bytes] = {}
        for file in loaded.files:
            data = await self._blobs.read(project, file.sha256, max_bytes=_BYTES_LIMIT)
            contents[file.path] = data
            file.sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
            file.size_bytes = len(data)
        digest = adapter_digest(loaded)
        if digest != adapter.digest or not contents.keys() >= {CONFIG, WEIGHTS}:
            raise _damaged(adapter, "its files do not match its manifest")
        try:
            lora = read_lora_config(contents[CONFIG])
            tensors = await asyncio.to_thread(safetensors.torch.load, contents[WEIGHTS])
        except (InvalidArgument, safetensors.SafetensorError) as error:
            raise _damaged(adapter, str(error)) from error
        return AdapterWeights(digest, lora, tensors)


def _damaged(adapter: Adapter, why: str) -> DataLoss:
    return DataLoss(f"{adapter.name} cannot be loaded: {why}", reason="ADAPTER_DAMAGED")
