"""JSON from outside, read only where every parser reads the same."""

from __future__ import annotations

import json
from typing import Any


class BadJson(ValueError):
    """The bytes are not such JSON; `reason` is for programs, the message says why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def load(data: bytes | bytearray) -> Any:
    """Return the value; BadJson, also for a key that occurs twice and for NaN and Infinity."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except BadJson:
        raise
    except UnicodeDecodeError as error:
        raise BadJson("NOT_UTF8", "is not UTF-8") from error
    except RecursionError as error:
        raise BadJson("TOO_DEEP", "nests too deeply") from error
    except ValueError as error:
        raise BadJson("NOT_JSON", "is not JSON") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("DUPLICATE_KEY", "has a key twice")
    return found


def _no_number(constant: str) -> Any:
    raise BadJson("NOT_JSON", f"is not JSON: it has a {constant}")
