import base64

import pytest
from luthier_common.errors import InvalidArgument
from luthier_common.paging import coerce_page_size, decode_token, encode_token


def test_sizes_follow_aip_158() -> None:
    assert coerce_page_size(0, default=20) == 20
    assert coerce_page_size(7) == 7
    assert coerce_page_size(10**9, maximum=1000) == 1000
    with pytest.raises(InvalidArgument) as caught:
        coerce_page_size(-1)
    assert caught.value.field == "page_size"


def test_a_token_continues_its_own_query_only() -> None:
    token = encode_token("query", ["é/ü", "name"])
    assert decode_token(token, "query") == ["é/ü", "name"]
    with pytest.raises(InvalidArgument):
        decode_token(token, "another query")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"[1,2]", b'["x",["a"]]', b'["x",[1]]', b"[" * 100_000, b"\xff"]
)
def test_a_garbled_token_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_token(base64.urlsafe_b64encode(text).decode(), "query")
    assert caught.value.field == "page_token"


@pytest.mark.parametrize("token", ["!", "abc", "é", "a" * 1001])
def test_a_token_that_is_no_base64_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument):
        decode_token(token, "query")
