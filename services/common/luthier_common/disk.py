"""Tells a full disk from other failures."""

from __future__ import annotations

import errno
import sqlite3


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room left on a disk of this machine."""
    match error:
        case OSError():
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        case sqlite3.Error():
            return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return False
