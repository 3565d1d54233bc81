"""The public gRPC API of the other services, forwarded to them by their descriptors.

The server's interceptor has found out who calls and applied the method's policy by the time a
handler runs; the channel adds the signed identity, and errors come through as they were raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from luthier_common.policy import policy_of
from luthier_common.rpc.client import Channel
from luthier_common.rpc.server import RpcServer

_CALL_SECONDS = 300.0
"""The deadline of calls that come without: a large import is read again byte by byte."""

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the type stubs only


def public_methods(service: ServiceDescriptor) -> list[MethodDescriptor]:
    """Return the methods that outside callers may use."""
    policies = ((method, policy_of(_path(method))) for method in service.methods)
    return [method for method, policy in policies if policy is not None and policy.public]


def forward(service: ServiceDescriptor, channel: Channel, server: RpcServer) -> None:
    """Have `server` serve the public methods of `service` by calling its owner on `channel`."""
    handlers = {method.name: _handler(method, channel) for method in public_methods(service)}
    server.add_service(handlers, _adder(service.full_name), service)


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _adder(name: str) -> Callable[[dict[str, _Handler], grpc.aio.Server], None]:
    def add(handlers: dict[str, _Handler], server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

    return add


def _handler(method: MethodDescriptor, channel: Channel) -> _Handler:
    """A handler of the method's shape; requests are decoded for the policy, answers never."""
    shape = "_".join(
        "stream" if streaming else "unary"
        for streaming in (method.client_streaming, method.server_streaming)
    )
    request_class = GetMessageClass(method.input_type)
    call = getattr(channel, shape)(
        _path(method),
        request_serializer=request_class.SerializeToString,
        response_deserializer=None,
    )
    behaviour = _streamed(call) if method.server_streaming else _answered(call)
    build: Callable[..., _Handler] = getattr(grpc, f"{shape}_rpc_method_handler")
    return build(behaviour, request_deserializer=request_class.FromString)


def _answered(call: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    async def answer(request: Any, context: Any) -> Any:
        return await call(request, timeout=context.time_remaining() or _CALL_SECONDS)

    return answer


def _streamed(call: Callable[..., Any]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(call(request, timeout=context.time_remaining())) as responses:
            async for response in responses:
                yield response

    return stream
