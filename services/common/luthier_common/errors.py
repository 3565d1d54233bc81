"""The platform's error tree: what a caller may be told, independent of any transport.

    PlatformError                  base; carries code, reason, message, field, metadata
    ├── InvalidArgument            the request is wrong whatever the state of the system
    ├── NotFound                   the named thing is absent (or belongs to someone else)
    ├── AlreadyExists              the name is taken
    ├── FailedPrecondition         right request, wrong state; retrying alone will not help
    ├── Aborted                    a concurrent change won
    │   └── Conflict               the revision (etag) given is stale
    ├── PermissionDenied           the caller is known and may not do this
    ├── Unauthenticated            the caller is not known
    ├── ResourceExhausted          a quota or a capacity is used up
    ├── Unavailable                try again; the outcome of a write may be unknown
    ├── DeadlineExceeded           the time given ran out
    ├── DataLoss                   stored bytes are missing or corrupted
    └── Internal                   a defect of ours

`code` is the canonical name (`google.rpc.Code`); the rpc layer maps it to its transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class PlatformError(Exception):
    """An error whose message is safe to show to the caller.

    `reason` is a stable UPPER_SNAKE identifier for programs, `field` the path of the request
    field at fault, `metadata` further facts for programs.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        field: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidArgument(PlatformError):
    """The request is wrong whatever the state of the system."""

    code = "INVALID_ARGUMENT"


class NotFound(PlatformError):
    """The named thing is absent, or belongs to someone else."""

    code = "NOT_FOUND"


class AlreadyExists(PlatformError):
    """The name is taken."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(PlatformError):
    """The system's state does not allow the request."""

    code = "FAILED_PRECONDITION"


class Aborted(PlatformError):
    """A concurrent change won; read again and retry."""

    code = "ABORTED"


class Conflict(Aborted):
    """The revision (etag) given is stale."""


class PermissionDenied(PlatformError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"


class Unauthenticated(PlatformError):
    """The caller is not known."""

    code = "UNAUTHENTICATED"


class ResourceExhausted(PlatformError):
    """A quota or a capacity is used up."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(PlatformError):
    """Try again later; the outcome of a write may be unknown."""

    code = "UNAVAILABLE"


class DeadlineExceeded(PlatformError):
    """The time given ran out."""

    code = "DEADLINE_EXCEEDED"


class DataLoss(PlatformError):
    """Stored bytes are missing or corrupted."""

    code = "DATA_LOSS"


class Internal(PlatformError):
    """A defect of ours."""

    code = "INTERNAL"


def not_found(name: str) -> NotFound:
    """The one answer for an absent name; a foreign name must get exactly the same."""
    return NotFound(
        f"{name} was not found", reason="RESOURCE_NOT_FOUND", metadata={"resource": name}
    )
