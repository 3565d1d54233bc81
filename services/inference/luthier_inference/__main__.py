"""Runs the inference service: `python -m luthier_inference`."""

import sys

from luthier_common.lifespan import run_service

from luthier_inference.app import build
from luthier_inference.settings import InferenceSettings

if __name__ == "__main__":
    sys.exit(run_service("inference", InferenceSettings, build))
