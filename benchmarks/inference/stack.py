"""Our servers for the serving part: gateway and inference service here, the engine below.

`python -m benchmarks.inference.stack PRECISION FOLDER MODEL ADAPTER…` prints one line of JSON once
everything is registered, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.inference.v1.adapter_service_pb2 import CreateAdapterRequest
from luthier_gateway.openai.names import model_of_adapter
from pydantic import SecretStr

from benchmarks.inference.client import Door
from tests.support.gateway import KEY, running_gateway, settings
from tests.support.inference_service import SECRET, inference_service
from tests.support.scripted_owners import Owners

_BASE = "bench"


async def main() -> None:
    """Serve."""
    precision: Any = sys.argv[1]
    folder, model, *adapters = map(Path, sys.argv[2:])
    async with inference_service(folder, precision=precision) as inference:
        base = await inference.import_base(model, name=_BASE)
        names = []
        for number, path in enumerate(adapters):
            request = CreateAdapterRequest(
                parent="projects/default",
                adapter=await inference.adapter(path, base, project="default"),
                adapter_id=f"a{number}",
            )
            created = await inference.adapters("default").CreateAdapter(request)
            names.append(model_of_adapter(created))
        secret = SecretStr(SECRET)
        configured = settings(folder, inference.nats_url, inference.address, identity_secret=secret)
        async with running_gateway(configured, Owners()) as gateway:
            print(json.dumps(asdict(Door(gateway.rest, KEY, _BASE, names))), flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
