"""A base model's small files, and the headers of its large ones, read from the object store."""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.errors import FailedPrecondition
from luthier_common.model_text import FILES
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs

from luthier_trainer.preflight.inventory import Inventory, Tensor, take_inventory
from luthier_trainer.preflight.tokens import TokenCounter

_CONFIG = "config.json"
_TENSORS = ".safetensors"
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100_000_000
_MOST_FILE_BYTES = 64 << 20
_MOST_SNAPSHOTS = 4


@dataclass(frozen=True)
class Snapshot:
    """What is known of a base model from its files."""

    inventory: Inventory
    counter: TokenCounter


class Snapshots:
    """Looks into base models; remembers the last few, which never change under their digest."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, Snapshot] = OrderedDict()

    async def of(self, base: BaseModel) -> Snapshot:
        """Return what its files say; FailedPrecondition for a model that cannot be read."""
        if base.digest not in self._known:
            self._known[base.digest] = await self._read(base)
            while len(self._known) > _MOST_SNAPSHOTS:
                self._known.popitem(last=False)
        self._known.move_to_end(base.digest)
        return self._known[base.digest]

    async def _read(self, base: BaseModel) -> Snapshot:
        project = project_of(base.name)
        small: dict[str, bytes] = {}
        tensors: list[Tensor] = []
        for file in base.files:
            if file.path == _CONFIG or file.path in FILES:
                small[file.path] = await self._blobs.read(
                    project, file.sha256, max_bytes=_MOST_FILE_BYTES
                )
            elif file.path.endswith(_TENSORS):
                tensors += await self._tensors(project, file, base.name)
        try:
            config = json.loads(small[_CONFIG])
        except (KeyError, ValueError) as error:
            raise _unusable(base.name, f"has no readable {_CONFIG}") from error
        return Snapshot(take_inventory(config, tensors), TokenCounter(small))

    async def _tensors(self, project: str, file: ModelFile, model: str) -> list[Tensor]:
        """Read a file up to the end of its header, however large it is."""
        start, wanted = bytearray(), _LENGTH_BYTES
        async with contextlib.aclosing(self._blobs.stream(project, file.sha256)) as chunks:
            async for chunk in chunks:
                start += chunk
                if wanted == _LENGTH_BYTES <= len(start):
                    wanted += int.from_bytes(start[:_LENGTH_BYTES], "little")
                if len(start) >= wanted > _LENGTH_BYTES or wanted > _MOST_HEADER_BYTES:
                    break
        try:
            header: dict[str, Any] = json.loads(start[_LENGTH_BYTES:wanted])
            header.pop("__metadata__", None)
            return [
                Tensor(name, tuple(entry["shape"]), entry["dtype"])
                for name, entry in header.items()
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise _unusable(model, f"has no readable header in {file.path}") from error


def _unusable(model: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"{model} {what}", reason="BASE_MODEL_UNUSABLE")
