"""Errors as `google.rpc.Status` and back, so that a caller catches what the server raised.

Every status has one ErrorInfo. A `field` adds BadRequest, a metadata entry
`retry_after_seconds` adds RetryInfo, and a Conflict adds PreconditionFailure, which tells it
from another Aborted.
"""

from __future__ import annotations

from typing import cast

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from luthier_common import errors
from luthier_common.errors import PlatformError

DOMAIN = "luthier.dev"
RETRY_AFTER = "retry_after_seconds"
_STALE = "STALE_REVISION"

# Statuses travel in HTTP/2 headers, which have a limit; nothing a caller sent may exceed it.
_MESSAGE_LIMIT = 2000
_VALUE_LIMIT = 500

_CLASSES: dict[str, type[PlatformError]] = {
    error.code: error
    for error in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.AlreadyExists,
        errors.FailedPrecondition,
        errors.Aborted,
        errors.PermissionDenied,
        errors.Unauthenticated,
        errors.ResourceExhausted,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.DataLoss,
        errors.Internal,
    )
}
# Codes that only transports and strangers answer with.
_FOREIGN: dict[str, type[PlatformError]] = {
    "OUT_OF_RANGE": errors.InvalidArgument,
    "CANCELLED": errors.Unavailable,  # the server went away while it was working
    "UNIMPLEMENTED": errors.Internal,
    "UNKNOWN": errors.Internal,
}


def to_status(error: PlatformError) -> status_pb2.Status:
    """Return the error in the form it has in answers and in records."""
    message = _clip(error.message, _MESSAGE_LIMIT)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=message)
    metadata = {key: _clip(value, _VALUE_LIMIT) for key, value in error.metadata.items()}
    _attach(
        status,
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata),
    )
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message, reason=error.reason
        )
        _attach(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Conflict):
        stale = error_details_pb2.PreconditionFailure.Violation(type=_STALE, description=message)
        _attach(status, error_details_pb2.PreconditionFailure(violations=[stale]))
    if RETRY_AFTER in metadata:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(float(metadata[RETRY_AFTER]) * 1e9))
        _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> PlatformError:
    """Return the error that a status tells of, of the class it had when it was raised."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    precondition = error_details_pb2.PreconditionFailure()
    for detail in status.details:
        for known in (info, bad_request, precondition):
            detail.Unpack(known)
    code = code_pb2.Code.Name(status.code)
    kind = _CLASSES.get(code) or _FOREIGN.get(code, errors.Internal)
    if any(violation.type == _STALE for violation in precondition.violations):
        kind = errors.Conflict
    return kind(
        status.message,
        reason=info.reason or code,
        field=next((violation.field for violation in bad_request.field_violations), None),
        metadata=dict(info.metadata),
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> PlatformError:
    """Return what a failed call tells, whether the service said it or the transport did."""
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:  # details of another error than the one answered
        status = None
    if status is None:
        code, name = error.code().value
        message = error.details() or str(name)
        status = status_pb2.Status(code=int(code), message=_clip(message, _MESSAGE_LIMIT))
    return from_status(status)


def grpc_code(error: PlatformError) -> grpc.StatusCode:
    """Return the gRPC code of an error."""
    return grpc.StatusCode[error.code]


def _attach(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
