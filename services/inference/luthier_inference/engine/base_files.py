"""The base model's files: from the store into a folder, verified again before each load."""

from __future__ import annotations

from pathlib import Path

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import DataLoss
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.folders import fetch_folder

from luthier_inference.digests import base_model_digest
from luthier_inference.model_facts import is_allowed


async def fetch_base_model(blobs: Blobs, base: BaseModel, folder: Path) -> Path:
    """Return a folder with exactly the snapshot's bytes; DataLoss when the store lacks them."""
    if base_model_digest(base.files) != base.digest:
        raise DataLoss(f"{base.name} does not have its digest", reason="BASE_MODEL_DAMAGED")
    for file in base.files:
        if not is_allowed(file.path):
            raise DataLoss(f"{base.name} has a file {file.path!r}", reason="BASE_MODEL_DAMAGED")
    target = folder / base.digest
    files = [(file.path, file.sha256) for file in base.files]
    await fetch_folder(blobs, project_of(base.name), files, target)
    return target
