import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from luthier_common import errors
from luthier_common.errors import PlatformError
from luthier_common.rpc.status import DOMAIN, from_status, grpc_code, to_status


def tree(root: type[PlatformError]) -> list[type[PlatformError]]:
    return [kind for child in root.__subclasses__() for kind in (child, *tree(child))]


@pytest.mark.parametrize("kind", tree(PlatformError), ids=lambda kind: kind.__name__)
def test_every_class_comes_back(kind: type[PlatformError]) -> None:
    error = kind("why", reason="A_REASON", field="a.b", metadata={"k": "v"})
    back = from_status(status_pb2.Status.FromString(to_status(error).SerializeToString()))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert grpc_code(error).value[0] == code_pb2.Code.Value(kind.code)


def test_details_are_those_of_google_rpc() -> None:
    error = errors.ResourceExhausted(
        "full", reason="QUOTA", field="n", metadata={"retry_after_seconds": "1.5"}
    )
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    details = to_status(error).details
    assert details[0].Unpack(info)
    assert details[1].Unpack(bad)
    assert details[2].Unpack(retry)
    assert (info.reason, info.domain) == ("QUOTA", DOMAIN)
    assert bad.field_violations[0].field == "n"
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_status_without_details_is_told_by_its_code() -> None:
    back = from_status(status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message="what?"))
    assert type(back) is errors.Internal
    assert (back.message, back.reason, back.field) == ("what?", "UNIMPLEMENTED", None)


def test_long_texts_are_cut() -> None:
    status = to_status(errors.not_found("x" * 1_000_000))
    assert status.ByteSize() < 8000
    assert status.message.endswith("…")
