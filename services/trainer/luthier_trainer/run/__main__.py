"""Runs one job: `python -m luthier_trainer.run`, told by its environment what to do.

Exit codes: 0 the outcome is committed, 65 the job cannot be done (committed, too), 75 it was told
to stop and has given its device back, 2 bad settings, anything else a fault after which the job may
be tried again.
"""

import asyncio
import logging
import signal
import sys
from typing import Any

from luthier_common.logs import configure_logs
from luthier_common.settings import SettingsError, load

from luthier_trainer.run_settings import EXIT_GAVE_BACK, RunSettings


def main() -> int:
    """Run the job and return the exit code."""
    signal.signal(signal.SIGTERM, _give_back)  # until the run has its own: nothing is done yet
    from luthier_trainer.run.app import run  # noqa: PLC0415 - it takes seconds

    try:
        settings = load(RunSettings)
    except SettingsError as error:
        print(f"luthier run: {error}", file=sys.stderr)
        return 2
    configure_logs("run", settings.log_level)
    try:
        return asyncio.run(run(settings))
    except Exception:
        logging.getLogger(__name__).critical("the run failed", exc_info=True)
        return 1


def _give_back(*_: Any) -> None:
    sys.exit(EXIT_GAVE_BACK)


if __name__ == "__main__":
    sys.exit(main())
