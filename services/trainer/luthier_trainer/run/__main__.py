"""Runs one job: `python -m luthier_trainer.run`, told by its environment what to do.

Exit codes: 0 the outcome is committed, 65 the job cannot be done (committed, too), 2 bad settings,
anything else a fault after which the job may be tried again.
"""

import asyncio
import logging
import sys

from luthier_common.logs import configure_logs
from luthier_common.settings import SettingsError, load

from luthier_trainer.run.app import run
from luthier_trainer.run_settings import RunSettings


def main() -> int:
    """Run the job and return the exit code."""
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


if __name__ == "__main__":
    sys.exit(main())
