"""Snapshots: the files of a model or an adapter, verified in the store byte by byte."""

from __future__ import annotations

import asyncio
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

from luthier_inference.tensor_reader import TensorReader
from luthier_inference.tensors import HEADER_LIMIT, BadTensors, Tensors

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
    finite: bool = False,
    header_limit: int = HEADER_LIMIT,
) -> Snapshot:
    """Read every file from the store under `project` and check its digest and size.

    `finite` and `header_limit` are of safetensors files, as TensorReader has them.
    InvalidArgument for what is wrong with the list or a file's contents, FailedPrecondition for
    bytes that are not there, DataLoss for bytes that are not what their digest says.
    """
    snapshot = Snapshot(field)
    _check_list(snapshot, files, allowed)
    for index, file in enumerate(files):
        try:
            reader = TensorReader(file.size_bytes, finite=finite, header_limit=header_limit)
            await _read(blobs, project, file, snapshot, reader)
        except BadTensors as error:
            message = f"{file.path} is refused: {error}"
            raise snapshot.refused(message, error.reason) from error
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


async def _read(
    blobs: Blobs, project: str, file: ModelFile, snapshot: Snapshot, reader: TensorReader
) -> None:
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
            if text:
                kept += chunk
            elif tensors and not reader.done:
                # In a thread: large headers take seconds, and others are being answered.
                await asyncio.to_thread(reader.feed, chunk)
    if size != file.size_bytes:
        message = f"{file.path} does not have {file.size_bytes} bytes"
        raise snapshot.refused(message, "FILE_SIZE_MISMATCH")
    if tensors:
        snapshot.tensors[file.path] = reader.result()
    elif text:
        snapshot.texts[file.path] = bytes(kept)
