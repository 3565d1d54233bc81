"""Base models: what they are, and their tokenizers from the store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.names import project_of

from luthier_dataset.cache import BlobCache
from luthier_dataset.tokens import FILES, TokenCounter


def is_encoder_decoder(base: BaseModel) -> bool:
    """Whether a model reads with an encoder and writes with a decoder, as T5 does."""
    return base.architecture.endswith("ForConditionalGeneration")


async def tokenizer_files(base: BaseModel, cache: BlobCache) -> dict[str, bytes]:
    """Return the files of a base model that counting needs, by name."""
    project = project_of(base.name)
    wanted = [file for file in base.files if file.path in FILES]
    return {file.path: await cache.read(project, file.sha256) for file in wanted}


async def counter_of(base: BaseModel, cache: BlobCache) -> TokenCounter:
    """Return the counter of a base model; FailedPrecondition if its files do not do for one."""
    return await asyncio.to_thread(TokenCounter, await tokenizer_files(base, cache))


def counter_in(folder: Path) -> TokenCounter:
    """Return the counter of the files of a base model that lie in a folder."""
    present = [name for name in FILES if (folder / name).exists()]
    return TokenCounter({name: (folder / name).read_bytes() for name in present})
