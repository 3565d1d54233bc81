"""The base model's files: from the store into a folder, verified again before each load."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.errors import DataLoss
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs

from luthier_inference.digests import base_model_digest
from luthier_inference.model_facts import is_allowed


async def fetch_base_model(blobs: Blobs, base: BaseModel, folder: Path) -> Path:
    """Return a folder with exactly the snapshot's bytes; DataLoss when the store lacks them."""
    target = folder / base.digest
    target.mkdir(parents=True, exist_ok=True)
    found = []
    for file in base.files:
        if not is_allowed(file.path):
            raise DataLoss(f"{base.name} has a file {file.path!r}", reason="BASE_MODEL_DAMAGED")
        path = target / file.path
        if await asyncio.to_thread(_sha256, path) != file.sha256:
            await blobs.fetch_to(project_of(base.name), file.sha256, path)
        found.append(ModelFile(path=file.path, sha256=await asyncio.to_thread(_sha256, path)))
    if base_model_digest(found) != base.digest:
        raise DataLoss(f"{base.name} does not have its digest", reason="BASE_MODEL_DAMAGED")
    return target


def _sha256(path: Path) -> str:
    """Return the digest of a file, empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
