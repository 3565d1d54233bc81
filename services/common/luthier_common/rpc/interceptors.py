"""What happens about every call served: request id, metrics, access log, errors, admission."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeAlias

import grpc
from grpc_status import rpc_status

from luthier_common import identity
from luthier_common.errors import Internal, InvalidArgument, PlatformError
from luthier_common.identity import Identity
from luthier_common.logs import request_id
from luthier_common.metrics import RpcMetrics
from luthier_common.policy import authorize, policy_of
from luthier_common.rpc.status import to_status

REQUEST_ID_HEADER = "luthier-request-id"
_REQUEST_ID_LIMIT = 64
_READ_OUT_SECONDS = 30.0

Authenticate = Callable[[Mapping[str, str]], Awaitable[Identity]]
"""Finds out who calls from the call's metadata; raises Unauthenticated."""

# Open to anybody: they tell nothing about any project.
_OPEN_SERVICES = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})

# In quotes: generic in their stubs only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

logger = logging.getLogger(__name__)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Admits calls by the policy of their method and answers every failure as a status."""

    def __init__(self, authenticate: Authenticate, metrics: RpcMetrics) -> None:
        self._authenticate = authenticate
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the method's handler; health and reflection stay as they are."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method.strip("/").partition("/")[0] in _OPEN_SERVICES:
            return handler
        return self._wrapped(method, handler)

    def _wrapped(self, method: str, handler: _Handler) -> _Handler:
        inner: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        admit = self._admit_stream if handler.request_streaming else self._admit_unary

        async def answer(request: Any, context: _Context) -> Any:
            async with self._serving(method, context):
                admitted = await admit(method, request, context)
                try:
                    return await inner(admitted, context)
                except PlatformError:
                    if handler.request_streaming:
                        await _read_out(request)
                    raise

        async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
            async with self._serving(method, context):
                admitted = await admit(method, request, context)
                async with aclosing(inner(admitted, context)) as responses:
                    async for response in responses:
                        yield response

        return _rebuilt(handler, stream if handler.response_streaming else answer)

    async def _admit_unary(self, method: str, request: Any, context: _Context) -> Any:
        caller = await self._authenticate(_metadata(context))
        identity.set_identity(caller)
        authorize(policy_of(method), request, caller)
        return request

    async def _admit_stream(
        self, method: str, requests: AsyncIterator[Any], context: _Context
    ) -> AsyncIterator[Any]:
        caller = await self._authenticate(_metadata(context))
        identity.set_identity(caller)
        requests = aiter(requests)
        first = await anext(requests, None)
        if first is None:
            raise InvalidArgument("the request stream is empty", reason="STREAM_EMPTY")
        authorize(policy_of(method), first, caller)
        return _chain(first, requests)

    @asynccontextmanager
    async def _serving(self, method: str, context: _Context) -> AsyncIterator[None]:
        # Every call has a task of its own, so what is set here ends with the call.
        request_id.set(_request_id(context))
        started = time.perf_counter()
        code, reason = "OK", ""
        self._metrics.began(method)
        try:
            yield
        except PlatformError as error:
            code, reason = error.code, error.reason
            await _abort(context, error)
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except Exception:
            code = "INTERNAL"
            logger.exception("call failed", extra={"method": method})
            await _abort(context, Internal("internal error", reason="INTERNAL"))
        finally:
            seconds = time.perf_counter() - started
            self._metrics.ended(method, code, seconds)
            _log_access(method, code, reason, seconds)


async def _abort(context: _Context, error: PlatformError) -> None:
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


def _log_access(method: str, code: str, reason: str, seconds: float) -> None:
    extra: dict[str, object] = {"method": method, "code": code, "seconds": round(seconds, 6)}
    if reason:
        extra["reason"] = reason
    caller = identity.identity_or_none()
    if caller is not None:
        extra |= {"project": caller.project, "subject": caller.subject, "role": caller.role.name}
    logger.info("call", extra=extra)


def _metadata(context: _Context) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _request_id(context: _Context) -> str:
    given = _metadata(context).get(REQUEST_ID_HEADER, "")
    return given if 0 < len(given) <= _REQUEST_ID_LIMIT else uuid.uuid4().hex


async def _chain(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield first
    async for item in rest:
        yield item


async def _read_out(requests: AsyncIterator[Any]) -> None:
    """Read what a refused caller still sends, for a while.

    A call that ends while its client sends may show there as INTERNAL, its status lost (grpc.aio).
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_READ_OUT_SECONDS):
            async for _ in requests:
                pass


def _rebuilt(handler: _Handler, behaviour: Any) -> _Handler:
    build: Callable[..., _Handler] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return build(behaviour, handler.request_deserializer, handler.response_serializer)
