"""A base model and adapters in a store, as an engine is told of them; no registry has them."""

from __future__ import annotations

import json
from pathlib import Path

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.objects.blobs import Blobs
from luthier_inference.digests import adapter_digest
from luthier_inference.importer import import_base_model

_DIGEST = "x"


async def store_base(blobs: Blobs, snapshot: Path) -> BaseModel:
    """Store the base model's files."""
    imported = await import_base_model(snapshot, blobs, "library")
    return BaseModel(
        name="projects/library/baseModels/x",
        digest=_DIGEST,
        architecture=json.loads((snapshot / "config.json").read_text())["architectures"][0],
        files=imported.files,
    )


async def store_adapter(blobs: Blobs, folder: Path) -> Adapter:
    """Store an adapter of acme's, tuned on that base model."""
    adapter = Adapter(name=f"projects/acme/adapters/{folder.name}", base_model_digest=_DIGEST)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        blob = await blobs.put_file("acme", folder / name)
        adapter.files.append(ModelFile(path=name, sha256=blob.sha256, size_bytes=blob.size))
    adapter.digest = adapter_digest(adapter)
    return adapter
