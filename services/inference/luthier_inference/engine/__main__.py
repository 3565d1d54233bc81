"""Runs an engine: `python -m luthier_inference.engine`.

It writes one line of JSON to its output: `{"address": …}` once it serves, or `{"error": …}`.
"""

import functools
import os
import sys

from luthier_common.lifespan import run_service

from luthier_inference.engine.app import build
from luthier_inference.engine.settings import EngineSettings


def main() -> int:
    """Run until told to stop and return the exit code."""
    with os.fdopen(os.dup(1), "w") as answer:
        # Whatever a library prints goes to the log; the line belongs to the router.
        os.dup2(2, 1)
        return run_service("engine", EngineSettings, functools.partial(build, answer=answer))


if __name__ == "__main__":
    sys.exit(main())
