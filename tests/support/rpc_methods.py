"""Every method of the platform's services, by their descriptors."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import luthier
from google.api import resource_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from luthier.policy.v1 import policy_pb2
from luthier_common.errors import PlatformError
from luthier_common.policy import policy_of
from luthier_common.rpc.status import from_rpc_error

Metadata = Any


def all_methods() -> list[MethodDescriptor]:
    """Return the methods of every service that the protos declare."""
    return sorted(_methods(), key=lambda method: method.full_name)


def public_methods() -> list[MethodDescriptor]:
    """Return the methods that the protos open to outside callers."""
    return [method for method in all_methods() if policy(method).public]


def policy(method: MethodDescriptor) -> policy_pb2.Policy:
    """Return the policy of a method."""
    found = policy_of(path(method))
    assert found is not None, f"{method.full_name} declares no policy"
    return found


def path(method: MethodDescriptor) -> str:
    """Return what a method is called on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def resource_type(method: MethodDescriptor) -> str:
    """Return the type of the resource that a request names; empty where it is a project."""
    field: FieldDescriptor = method.input_type.fields_by_name[policy(method).resource_field]
    reference = field.GetOptions().Extensions[resource_pb2.resource_reference]
    return str(reference.type)


def request_for(method: MethodDescriptor, name: str) -> Message:
    """Return a request that names a resource and nothing else."""
    return GetMessageClass(method.input_type)(**{policy(method).resource_field: name})


async def call(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: Message, metadata: Metadata
) -> list[Any]:
    """Return the answers to one request; PlatformError."""
    shape = "_".join(
        "stream" if streaming else "unary"
        for streaming in (method.client_streaming, method.server_streaming)
    )
    start = getattr(channel, shape)(
        path(method),
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    sent = iter([request]) if method.client_streaming else request
    calling = start(sent, metadata=metadata, timeout=10)
    try:
        if method.server_streaming:
            return [answer async for answer in calling]
        return [await calling]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def failure(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: Message, metadata: Metadata
) -> PlatformError:
    """Return what a call fails with."""
    try:
        answers = await call(channel, method, request, metadata)
    except PlatformError as error:
        return error
    raise AssertionError(f"{method.full_name} answered {answers}")


def _methods() -> Iterator[MethodDescriptor]:
    (root,) = luthier.__path__
    for file in Path(root).rglob("*_service_pb2.py"):
        name = ".".join(("luthier", *file.relative_to(root).with_suffix("").parts))
        for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
            yield from service.methods
