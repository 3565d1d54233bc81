import inspect

import nats.errors
import nats.js.errors
import pytest
from google.rpc import code_pb2
from luthier_common import errors
from luthier_common.errors import PlatformError, not_found
from luthier_common.nats_client import platform_error

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, PlatformError) and kind is not PlatformError
]


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_is_drawn_in_the_docstring_and_has_a_canonical_code(
    kind: type[PlatformError],
) -> None:
    assert f"─ {kind.__name__} " in (errors.__doc__ or "")
    assert kind.code in set(code_pb2.Code.keys())


def test_all_absent_names_are_answered_alike() -> None:
    mine, foreign = not_found("projects/a/files/x"), not_found("projects/b/files/x")
    assert mine.message.replace("/a/", "/b/") == foreign.message
    assert mine.reason == foreign.reason == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (nats.errors.TimeoutError(), errors.Unavailable, "NATS_UNREACHABLE"),
        (nats.errors.FlushTimeoutError(), errors.Unavailable, "NATS_UNREACHABLE"),
        (nats.errors.UnexpectedEOF(), errors.Unavailable, "NATS_UNREACHABLE"),
        (nats.errors.ConnectionClosedError(), errors.Unavailable, "NATS_UNREACHABLE"),
        (nats.errors.ConnectionReconnectingError(), errors.Unavailable, "NATS_UNREACHABLE"),
        (nats.js.errors.NoStreamResponseError(), errors.Unavailable, "NATS_UNREACHABLE"),
        (nats.js.errors.ServiceUnavailableError(), errors.Unavailable, "NATS_UNREACHABLE"),
        (ConnectionRefusedError(), errors.Unavailable, "NATS_UNREACHABLE"),
        (nats.js.errors.NotFoundError(err_code=10059), errors.Unavailable, "STREAM_MISSING"),
        (nats.js.errors.ServerError(err_code=10077), errors.ResourceExhausted, "NATS_FULL"),
        # Out of space must not be taken for an outage that passes.
        (
            nats.js.errors.ServiceUnavailableError(err_code=10047),
            errors.ResourceExhausted,
            "NATS_FULL",
        ),
        (nats.errors.MaxPayloadError(), errors.InvalidArgument, "RECORD_TOO_LARGE"),
        (nats.errors.AuthorizationError(), errors.FailedPrecondition, "NATS_REFUSED"),
        (nats.js.errors.BadRequestError(err_code=1), errors.Internal, "NATS_ERROR"),
        (nats.errors.BadSubjectError(), errors.Internal, "NATS_ERROR"),
    ],
)
def test_errors_of_the_nats_client_have_a_meaning(
    error: Exception, kind: type[PlatformError], reason: str
) -> None:
    translated = platform_error(error, "writing x")
    assert (type(translated), translated.reason) == (kind, reason)
    assert translated.message.startswith("writing x")
