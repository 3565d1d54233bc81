"""Pages as AIP-158 asks: coerced sizes and opaque tokens bound to the query they continue."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from luthier_common.errors import InvalidArgument

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list."""

    items: list[T]
    next_page_token: str
    """Empty on the last page."""
    has_more: bool


def coerce_page_size(requested: int, *, default: int = 50, maximum: int = 1000) -> int:
    """Return the number of items to serve: 0 is the default, too many is the maximum."""
    if requested < 0:
        raise InvalidArgument(
            "page_size must not be negative", reason="INVALID_PAGE_SIZE", field="page_size"
        )
    return min(requested or default, maximum)


def encode_token(query: str, position: list[str]) -> str:
    """Return a token that continues `query` after `position`."""
    text = json.dumps([_digest(query), position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, query: str) -> list[str]:
    """Return the position; InvalidArgument if the token is garbled or of another query."""
    try:
        padded = token + "=" * (-len(token) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        content = None
    match content:
        case [digest, [*position]] if digest == _digest(query):
            if all(isinstance(part, str) for part in position):
                return position
    raise InvalidArgument(
        "page_token does not belong to this request; repeat the other fields unchanged",
        reason="INVALID_PAGE_TOKEN",
        field="page_token",
    )


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:16]
