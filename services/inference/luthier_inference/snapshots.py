"""Snapshots: the files of a model or an adapter, verified in the store byte by byte."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.inference.v1.base_model_pb2 import ModelFile
from luthier_common.errors import DataLoss, FailedPrecondition, InvalidArgument
from luthier_common.objects.blobs import Blobs

from luthier_inference.tensors import BadTensors, Tensors, header_bytes, read_header

TEXT_LIMIT = 64 * 1024 * 1024
"""The most bytes of a JSON or template file."""

_FILES_LIMIT = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEXT_SUFFIXES = (".json", ".jinja")


@dataclass
class Snapshot:
    """What verification has read on its way."""

    field: str
    """The request's field with the files, for errors."""
    texts: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Contents of the JSON and template files, by path."""
    tensors: dict[str, Tensors] = dataclasses.field(default_factory=dict)
    """Headers of the safetensors files, by path."""

    def json(self, path: str) -> dict[str, Any]:
        """Return a JSON file's object, empty where the file is absent; InvalidArgument."""
        try:
            content = json.loads(self.texts.get(path, b"{}"))
        except (ValueError, RecursionError) as error:
            raise self.refused(f"{path} is not JSON", "BAD_CONFIG") from error
        if not isinstance(content, dict):
            raise self.refused(f"{path} is not a JSON object", "BAD_CONFIG")
        return content

    def refused(self, message: str, reason: str) -> InvalidArgument:
        """Return the error that refuses the files."""
        return InvalidArgument(message, reason=reason, field=self.field)


async def verify(
    blobs: Blobs,
    project: str,
    files: Sequence[ModelFile],
    *,
    field: str,
    allowed: Callable[[str], bool],
) -> Snapshot:
    """Read every file from the store under `project` and check its digest and size.

    InvalidArgument for what is wrong with the list or a file's contents, FailedPrecondition for
    bytes that are not there, DataLoss for bytes that are not what their digest says.
    """
    snapshot = Snapshot(field)
    _check_list(snapshot, files, allowed)
    for index, file in enumerate(files):
        try:
            await _read(blobs, project, file, snapshot)
        except BadTensors as error:
            message = f"{file.path} is not a safetensors file: {error}"
            raise snapshot.refused(message, "NOT_SAFETENSORS") from error
        except DataLoss as error:
            message = f"{file.path}: {error.message}"
            if error.reason != "BLOB_MISSING":
                raise DataLoss(message, reason=error.reason) from error
            raise FailedPrecondition(
                message, reason="BLOB_MISSING", field=f"{field}[{index}]"
            ) from error
    return snapshot


def _check_list(
    snapshot: Snapshot, files: Sequence[ModelFile], allowed: Callable[[str], bool]
) -> None:
    if not 0 < len(files) <= _FILES_LIMIT:
        raise snapshot.refused(f"1 to {_FILES_LIMIT} files are needed", "BAD_FILES")
    for file in files:
        if not allowed(file.path):
            message = f"{file.path[:200]!r} may not be part of it: only safetensors, tokenizer "
            raise snapshot.refused(message + "and configuration files are", "FILE_NOT_ALLOWED")
        if _DIGEST.fullmatch(file.sha256) is None or file.size_bytes < 0:
            raise snapshot.refused(f"{file.path}: sha256 or size is not valid", "BAD_FILES")
    if len({file.path for file in files}) != len(files):
        raise snapshot.refused("a path occurs twice", "BAD_FILES")


async def _read(blobs: Blobs, project: str, file: ModelFile, snapshot: Snapshot) -> None:
    tensors = file.path.endswith(".safetensors")
    text = file.path.endswith(_TEXT_SUFFIXES)
    if text and file.size_bytes > TEXT_LIMIT:
        raise snapshot.refused(f"{file.path} is larger than {TEXT_LIMIT} bytes", "BAD_FILES")
    kept, size = bytearray(), 0
    async with contextlib.aclosing(blobs.stream(project, file.sha256)) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > file.size_bytes:
                break
            if text or (tensors and len(kept) < header_bytes(kept)):
                kept += chunk
    if size != file.size_bytes:
        raise snapshot.refused(f"{file.path} does not have {file.size_bytes} bytes", "BAD_FILES")
    if tensors:
        snapshot.tensors[file.path] = read_header(bytes(kept), size)
    elif text:
        snapshot.texts[file.path] = bytes(kept)
