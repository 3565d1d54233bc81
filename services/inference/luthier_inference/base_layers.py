"""The linear layers of a base model that LoRA can be put beside, from its files' headers."""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.errors import DataLoss
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs

from luthier_inference.model_facts import is_seq2seq
from luthier_inference.tensors import BadTensors, header_bytes, read_header
from luthier_inference.weights import Shapes, linear_weights

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_INDEX_BYTES = 64 << 20
_MOST_MODELS = 8
# What transformers calls the part of a causal model below its head. Files saved without a head
# lack it (GPT-2's do), and loading adds it.
_BODIES = ("model", "transformer", "gpt_neox")
_TRANSFORMERS = ("Bloom", "CodeGen", "Falcon", "GPT2", "GPTBigCode", "GPTJ", "Mpt")
_TRANSPOSED = ("GPT2", "OpenAIGPT")
"""Whose layers are transformers' Conv1D, which keeps its matrix as inputs by outputs."""


class Layer(NamedTuple):
    """A linear layer's size, in numbers."""

    inputs: int
    outputs: int


class BaseLayers:
    """Looks into base models; remembers the last few, which never change under their digest."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, Mapping[str, Layer]] = OrderedDict()

    async def of(self, base: BaseModel) -> Mapping[str, Layer]:
        """Return the layers by name; DataLoss when the store lacks the files, or has others."""
        layers = self._known.get(base.digest)
        if layers is None:
            layers = linear_layers(await self._shapes(base), base.architecture)
            self._known[base.digest] = layers
        self._known.move_to_end(base.digest)
        while len(self._known) > _MOST_MODELS:
            self._known.popitem(last=False)
        return layers

    async def _shapes(self, base: BaseModel) -> Shapes:
        files = {file.path: file for file in base.files}
        loaded = {_SINGLE}
        try:
            if _SINGLE not in files and _INDEX in files:
                project, sha256 = project_of(base.name), files[_INDEX].sha256
                index = await self._blobs.read(project, sha256, max_bytes=_INDEX_BYTES)
                loaded = set(json.loads(index)["weight_map"].values())
            shapes: dict[str, tuple[int, ...]] = {}
            for path in sorted(loaded & files.keys()):
                shapes |= await self._header(base, files[path])
        except (KeyError, ValueError) as error:
            message = f"{base.name} is not what was imported: {error}"
            raise DataLoss(message, reason="BASE_MODEL_DAMAGED") from error
        return shapes

    async def _header(self, base: BaseModel, file: ModelFile) -> Shapes:
        """Read a file up to the end of its header, however large it is."""
        start = bytearray()
        async with contextlib.aclosing(
            self._blobs.stream(project_of(base.name), file.sha256)
        ) as chunks:
            async for chunk in chunks:
                start += chunk
                if len(start) >= max(header_bytes(start), 9):
                    break
        try:
            return read_header(start, file.size_bytes).shapes
        except BadTensors as error:
            raise BadTensors(error.reason, f"of {file.path}, {error}") from error


def linear_layers(shapes: Shapes, architecture: str) -> dict[str, Layer]:
    """Return the layers by the names that transformers gives them in a model of this class."""
    body = "model"
    if architecture.startswith("GPTNeoX"):
        body = "gpt_neox"
    elif architecture.startswith(_TRANSFORMERS):
        body = "transformer"
    layers = {}
    for weight, (rows, columns) in linear_weights(shapes):
        name = weight.removesuffix(".weight")
        if not is_seq2seq(architecture) and name.partition(".")[0] not in _BODIES:
            name = f"{body}.{name}"
        transposed = architecture.startswith(_TRANSPOSED)
        layers[name] = Layer(rows, columns) if transposed else Layer(columns, rows)
    return layers
