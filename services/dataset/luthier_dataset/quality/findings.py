"""What a check says about a row."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, array_like=True):
    """One thing that is wrong with a row."""

    check: int
    """A `QualityCheck`."""
    detail: str
    """What was found, for people; secrets and personal data are masked."""
