"""Digests: what a base model and an adapter are called by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from google.protobuf.json_format import MessageToDict
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import ModelFile
from luthier_common.objects.folders import folder_digest

# What a name, a clock, the record store or whoever serves it adds; all else is the manifest.
_NOT_IN_MANIFEST = (
    "name",
    "digest",
    "create_time",
    "update_time",
    "delete_time",
    "etag",
    "state",
    "pinned",
    "probe_results",
)


def base_model_digest(files: Iterable[ModelFile]) -> str:
    """Return what the files of a base model are called by (see `folder_digest`)."""
    return folder_digest((file.path, file.sha256) for file in files)


def adapter_digest(adapter: Adapter) -> str:
    """Return the SHA-256 of the adapter's manifest as canonical JSON, its files by path."""
    manifest = Adapter()
    manifest.CopyFrom(adapter)
    for field in _NOT_IN_MANIFEST:
        manifest.ClearField(field)
    manifest.files.sort(key=lambda file: file.path)
    text = json.dumps(
        MessageToDict(manifest, preserving_proto_field_name=True),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()
