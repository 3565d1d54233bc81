"""The public names of adapters that other resources refer to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from luthier.inference.v1 import adapter_service_pb2
from luthier_common.errors import DeadlineExceeded, NotFound, Unavailable
from luthier_common.names import id_of

from luthier_gateway.openai.names import model_of_adapter
from luthier_gateway.owners import Owners

_SECONDS = 2.0
"""For what an answer can do without."""


async def public_names(owners: Owners, adapters: Iterable[str]) -> dict[str, str]:
    """Return the public names of adapters, by their resource names.

    It is the id of one that is gone, or whose owner does not answer.
    """
    wanted = sorted(set(adapters))
    # At once, so that an owner who does not answer is waited for only once.
    public = await asyncio.gather(*(_public_name(owners, name) for name in wanted))
    return dict(zip(wanted, public, strict=True))


async def _public_name(owners: Owners, name: str) -> str:
    request = adapter_service_pb2.GetAdapterRequest(name=name)
    try:
        return model_of_adapter(await owners.adapters.GetAdapter(request, timeout=_SECONDS))
    except (NotFound, Unavailable, DeadlineExceeded):
        return id_of(name)
