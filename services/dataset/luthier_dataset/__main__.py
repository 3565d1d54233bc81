"""Runs the dataset service: `python -m luthier_dataset`."""

import sys

from luthier_common.lifespan import run_service

from luthier_dataset.app import build
from luthier_dataset.settings import DatasetSettings

if __name__ == "__main__":
    sys.exit(run_service("dataset", DatasetSettings, build))
