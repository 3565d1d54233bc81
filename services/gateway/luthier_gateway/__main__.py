"""`python -m luthier_gateway`: the gateway process."""

import sys

from luthier_common.lifespan import run_service

from luthier_gateway.app import build
from luthier_gateway.settings import GatewaySettings

if __name__ == "__main__":
    sys.exit(run_service("gateway", GatewaySettings, build))
