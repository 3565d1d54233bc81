"""What decides about rows beside a dataset itself: our code, and the libraries under it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
import sqlite3
from functools import lru_cache
from pathlib import Path

import luthier_dataset

_REQUIRED = re.compile(r"([\w.-]+).*extra == 'dataset'")
"""A requirement of this service in our package's metadata."""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of Python, SQLite and every library that this service requires.

    Beside our own version stands a digest of this service's sources, `luthier_dataset`: the first
    changes with a release, the second with every change of the code.
    """
    found = map(_REQUIRED.match, importlib.metadata.requires("luthier") or ())
    names = ["luthier", *(match[1] for match in found if match)]
    return {
        **{name: importlib.metadata.version(name) for name in names},
        "luthier_dataset": f"sha256:{_digest_of(Path(luthier_dataset.__path__[0]))}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def _digest_of(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}\n{len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()
