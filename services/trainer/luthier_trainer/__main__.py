"""Starts the trainer's API and controller."""

import sys

from luthier_common.lifespan import run_service

from luthier_trainer.app import build
from luthier_trainer.settings import TrainerSettings

if __name__ == "__main__":
    sys.exit(run_service("trainer", TrainerSettings, build))
