"""Resource names: `collection/id` pairs such as `projects/acme/files/file-1`.

Ids follow AIP-122, so one spelling serves as URL segment, NATS subject token and object key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time

from luthier_common.errors import InvalidArgument

# Given ids (`check_id`) start with a letter; a segment may also be a number, such as an event's.
_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SEGMENT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_TIME_DIGITS = 9  # milliseconds in base 36, enough until the year 5188
_RANDOM_DIGITS = 15  # 77 bits


def parse(name: str, pattern: str, *, field: str = "name") -> dict[str, str]:
    """Return the pattern's variables found in `name`; InvalidArgument on any mismatch."""
    wanted, given = pattern.split("/"), name.split("/")
    variables: dict[str, str] = {}
    matches = len(wanted) == len(given)
    for segment, value in zip(wanted, given, strict=False):
        variable = _VARIABLE.fullmatch(segment)
        if variable is None:
            matches = matches and segment == value
        else:
            matches = matches and _SEGMENT.fullmatch(value) is not None
            variables[variable.group(1)] = value
    if not matches:
        raise InvalidArgument(
            f"{field} must have the form {pattern}", reason="INVALID_RESOURCE_NAME", field=field
        )
    return variables


def format_name(pattern: str, **variables: str) -> str:
    """Fill the pattern in; InvalidArgument when a value is not a legal segment."""
    name = _VARIABLE.sub(lambda match: variables[match.group(1)], pattern)
    parse(name, pattern)
    return name


def project_of(name: str, *, field: str = "name") -> str:
    """Return the project of any `projects/{project}[/...]` name; InvalidArgument otherwise."""
    return parse("/".join(name.split("/")[:2]), "projects/{project}", field=field)["project"]


def parent_of(name: str) -> str:
    """Return the name without its last `collection/id` pair."""
    return "/".join(name.split("/")[:-2])


def id_of(name: str) -> str:
    """Return the last segment."""
    return name.rpartition("/")[2]


def check_id(value: str, *, field: str) -> str:
    """Return `value` if a caller may choose it as an id, else InvalidArgument."""
    if _ID.fullmatch(value) is None:
        raise InvalidArgument(
            f"{field} must be 1 to 63 lower-case letters, digits or dashes, "
            "begin with a letter and not end with a dash",
            reason="INVALID_ID",
            field=field,
        )
    return value


def choose_id(prefix: str, parent: str, given: str, request_id: str, *, field: str) -> str:
    """Return the id of a new resource: the one given, else one of the service's choice.

    The same `request_id` makes the same id, so that two at once cannot make two resources.
    InvalidArgument when the one given is no id.
    """
    if given:
        return check_id(given, field=field)
    if request_id:
        digest = hashlib.sha256(f"{parent} {request_id}".encode()).hexdigest()
        return f"{prefix}-{digest[:24]}"
    return new_id(prefix)


def new_id(prefix: str) -> str:
    """Return `prefix-` and 24 characters: the time, so that ids sort by age, then chance."""
    moment = time.time_ns() // 1_000_000
    digits = ""
    for _ in range(_TIME_DIGITS):
        moment, digit = divmod(moment, 36)
        digits = _ALPHABET[digit] + digits
    chance = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_DIGITS))
    return check_id(f"{prefix}-{digits}{chance}", field="id")
