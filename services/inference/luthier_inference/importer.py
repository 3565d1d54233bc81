"""Imports a model from a local folder: its files into the store, as CreateBaseModel wants them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.errors import InvalidArgument
from luthier_common.model_text import TOKENIZER
from luthier_common.objects.blobs import Blobs

from luthier_inference.model_facts import HOW_TO_MAKE_A_TOKENIZER, is_allowed


async def import_base_model(path: Path, blobs: Blobs, project: str) -> BaseModel:
    """Upload the snapshot in `path` and return the base model to create.

    Only files a base model may have are taken; others (pickles, code) stay behind.
    InvalidArgument when what is needed is not there.
    """
    found = await asyncio.to_thread(_found, path)
    names = {entry.name for entry in found}
    if "config.json" not in names:
        raise _refused(f"{path} has no config.json: it is not a model", "CONFIG_MISSING")
    if not any(name.endswith(".safetensors") for name in names):
        raise _refused(f"{path} has no *.safetensors; pickles are not read", "WEIGHTS_MISSING")
    if TOKENIZER not in names:
        how = HOW_TO_MAKE_A_TOKENIZER.replace("PATH", str(path))
        raise _refused(f"{path} has no {TOKENIZER}; {how}", "TOKENIZER_MISSING")
    files = []
    for entry in found:
        blob = await blobs.put_file(project, entry)
        files.append(ModelFile(path=entry.name, sha256=blob.sha256, size_bytes=blob.size))
    return BaseModel(display_name=path.name, files=files)


def _found(path: Path) -> list[Path]:
    if not path.is_dir():
        raise _refused(f"{path} is not a folder", "NOT_A_FOLDER")
    return sorted(entry for entry in path.iterdir() if entry.is_file() and is_allowed(entry.name))


def _refused(message: str, reason: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, field="path")
