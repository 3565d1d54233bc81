"""Tables for docs from the comments in the protos of datasets."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from generate_protos import includes
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule

_PROTOS = ("luthier/dataset/v1/recipe.proto", "luthier/dataset/v1/quality.proto")
_MESSAGE, _ENUM, _MEMBER = 4, 5, 2
"""Numbers of fields in the paths of protoc's source information (descriptor.proto)."""
_TYPES = {
    FieldDescriptorProto.TYPE_STRING: "text",
    FieldDescriptorProto.TYPE_BOOL: "true or false",
    FieldDescriptorProto.TYPE_INT32: "number",
}


def fields_table(message: str) -> str:
    """Return the fields of a message of recipe.proto, with their kinds and their comments."""
    recipes, _ = _files()
    number, found = next(
        (number, one) for number, one in enumerate(recipes.message_type) if one.name == message
    )
    comments = _comments(recipes)
    lines = ["| field | kind | |", "|---|---|---|"]
    for place, field in enumerate(found.field):
        told = comments[_MESSAGE, number, _MEMBER, place]
        told = re.sub(r"^Optional\. ", "", re.sub(r"^Required\. ", "**Required.** ", told))
        told = _plain(told, recipes)
        lines.append(f"| `{field.name}` | {_kind(field, found)} | {told} |")
    return "\n".join(lines)


def checks_table(actions: Mapping[int, int]) -> str:
    """Return the checks of quality.proto; `actions` is what is done about each by default."""
    _, quality = _files()
    number = next(n for n, one in enumerate(quality.enum_type) if one.name == "QualityCheck")
    comments = _comments(quality)
    lines = ["| check | what it finds | by default |", "|---|---|---|"]
    for place, value in enumerate(quality.enum_type[number].value):
        if value.number in actions:
            action = QualityRule.Action.Name(QualityRule.Action.ValueType(actions[value.number]))
            told = comments[_ENUM, number, _MEMBER, place].removesuffix(f" {action}.")
            name = QualityCheck.Name(QualityCheck.ValueType(value.number)).lower()
            lines.append(f"| `{name}` | {told} | `{action.lower()}` |")
    return "\n".join(lines)


@cache
def _files() -> tuple[FileDescriptorProto, FileDescriptorProto]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protos.binpb"
        options = [f"--descriptor_set_out={out}", "--include_source_info"]
        if protoc.main(["protoc", *includes(), *options, *_PROTOS]) != 0:
            raise RuntimeError("protoc failed")
        recipes, quality = FileDescriptorSet.FromString(out.read_bytes()).file
    return recipes, quality


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Return the comments above everything in a file, by path, one line each."""
    return {
        tuple(one.path): " ".join(one.leading_comments.split())
        for one in file.source_code_info.location
    }


def _kind(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    name = field.type_name.rpartition(".")[2]
    if field.type == FieldDescriptorProto.TYPE_ENUM:
        return ", ".join(f"`{value}`" for value in _values(message, name))
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        part = name.removesuffix("Recipe").lower()
        return f"[{part}](#{part})"
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"list of {_TYPES[field.type]}s" if repeated else _TYPES[field.type]


def _values(message: DescriptorProto, enum: str) -> Iterator[str]:
    (found,) = (one for one in message.enum_type if one.name == enum)
    return (value.name.lower() for value in found.value if value.number)


def _plain(comment: str, file: FileDescriptorProto) -> str:
    """Return a comment with the values of enums as a REST body has them."""
    values = {
        value.name
        for message in file.message_type
        for enum in message.enum_type
        for value in enum.value
    }
    return re.sub(
        r"\b[A-Z_]+\b", lambda at: f"`{at[0].lower()}`" if at[0] in values else at[0], comment
    )
