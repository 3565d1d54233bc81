"""The tokenizer of a base model, from the store."""

from __future__ import annotations

import asyncio

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.names import project_of

from luthier_dataset.cache import BlobCache
from luthier_dataset.tokens import FILES, TokenCounter


async def counter_of(base: BaseModel, cache: BlobCache) -> TokenCounter:
    """Return the counter of a base model; FailedPrecondition if its files do not do for one."""
    project = project_of(base.name)
    wanted = [file for file in base.files if file.path in FILES]
    files = {file.path: await cache.read(project, file.sha256) for file in wanted}
    return await asyncio.to_thread(TokenCounter, files)
