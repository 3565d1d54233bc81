"""Lists as OpenAI pages them: `limit`, `after`, `has_more`, `first_id`, `last_id`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

Fetch = Callable[[int, str], Awaitable[tuple[Sequence[T], str]]]
"""Gets a page of an owner by size and token; returns it with the token of the next."""

_FETCHED = 1000  # keeps an owner's answer well below the limit of a message


async def gather(
    fetch: Fetch[T], limit: int, *, keep: Callable[[T], bool] = lambda _: True
) -> tuple[list[T], bool]:
    """Return the first `limit` items that `keep` wants, and whether there are more of them."""
    found: list[T] = []
    token = ""
    while True:
        items, token = await fetch(min(limit + 1, _FETCHED), token)
        found += filter(keep, items)
        if len(found) > limit or not token:
            return found[:limit], len(found) > limit


def page(data: Sequence[dict[str, Any]], has_more: bool = False) -> dict[str, Any]:
    """Return the body of a list."""
    return {
        "object": "list",
        "data": list(data),
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
