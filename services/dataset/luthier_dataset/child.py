"""The child's side of a pool: takes jobs, one JSON line each, and answers each with one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def serve(handle: Callable[[bytes], bytes]) -> None:
    """Answer jobs from standard input until it ends.

    Whatever libraries print goes to standard error: answers have a descriptor of their own.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        answers.write(handle(line).rstrip(b"\n") + b"\n")
        answers.flush()
