"""The dataset service with a scripted model: files in, a READY dataset and its rows out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow, RowOrigin
from luthier.dataset.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    GetDatasetRequest,
    ListDatasetRowsRequest,
)
from luthier.dataset.v1.quality_pb2 import QualityReport
from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier.inference.v1.generation_pb2 import Finish
from luthier.inference.v1.generation_service_pb2 import StreamChatRequest, StreamChatResponse
from luthier_common.objects.blobs import Blobs
from tokenizers import Encoding, Tokenizer

from tests.support.dataset_service import DatasetClient, dataset_service, store
from tests.support.eventually import eventually
from tests.support.grpc_server import serving
from tests.support.nats_server import nats_server
from tests.support.scripted_inference import BASE_MODEL, DIGEST, ScriptedInference

CONTEXT = 512
"""Tokens that the model's context holds."""
CUT = "\u2026"
"""An answer of the model that ends so was stopped for its length."""
_STARTER = Path(__file__).parents[2] / "models" / "starter"
_TOKENIZER = Tokenizer.from_file(str(_STARTER / "tokenizer.json"))


def encode(text: str) -> Encoding:
    """Return the tokens of a text, by the base model's tokenizer and not by the service."""
    return _TOKENIZER.encode(text, add_special_tokens=False)


@dataclass(frozen=True)
class Built:
    """A READY dataset, its rows in order, and what it was made of."""

    dataset: Dataset
    rows: Sequence[DatasetRow]
    lines: Sequence[dict[str, Any]]
    """Of the minted file."""
    report: QualityReport
    names: Mapping[str, str]
    """Of the uploads, by the name of the file in the service."""
    data: Mapping[str, bytes]
    """Of the uploads, by name."""
    asked: Sequence[StreamChatRequest]
    """What the model was asked."""

    @property
    def dropped(self) -> dict[str, int]:
        """Rows not kept, by reason."""
        return dict(self.dataset.statistics.dropped_by_reason)

    def of(self, recipe: str, name: str = "") -> list[DatasetRow]:
        """Return the rows by a recipe, from one upload if it is named."""
        named = [row for row in self.rows if name in ("", self.names[row.origins[0].source_file])]
        return [row for row in named if row.recipe == recipe]

    def source(self, part: DatasetRow | RowOrigin) -> str:
        """Return the bytes of the upload that a row, or another part of it, comes from."""
        origin = part.origins[0] if isinstance(part, DatasetRow) else part
        data = self.data[self.names[origin.source_file]]
        return data[origin.place.start_byte : origin.place.end_byte].decode()


@dataclass(frozen=True)
class DatasetBuilds:
    """The running service, and the model that it asks."""

    client: DatasetClient
    model: ScriptedInference

    async def build(
        self,
        files: Mapping[str, bytes | str],
        *recipes: Recipe,
        answer: Callable[[str], str] = lambda prompt: "nobody asks",
        cut: int = 0,
    ) -> Built:
        """Upload files by name, and build a dataset of them in this order.

        The model answers by `answer`, and `cut` times at first with half of it.
        """
        self.model.answer, self.model.cut = answer, cut
        self.model.asked.clear()
        data = {
            name: content.encode() if isinstance(content, str) else content
            for name, content in files.items()
        }
        names = {(await self.client.upload(data[name], name)).name: name for name in data}
        dataset = await self._ready(
            Dataset(source_files=names, recipes=recipes, base_model=BASE_MODEL)
        )
        listed = ListDatasetRowsRequest(parent=dataset.name, page_size=1000)
        rows = (await self.client.datasets.ListDatasetRows(listed)).rows
        lines = (await self.client.download(dataset.file)).splitlines()
        assert lines == [row.line.encode() for row in rows]
        report = await self.client.report(dataset.name)
        parsed = [json.loads(line) for line in lines]
        return Built(dataset, rows, parsed, report, names, data, list(self.model.asked))

    async def _ready(self, draft: Dataset) -> Dataset:
        request = CreateDatasetRequest(parent="projects/acme", dataset=draft)
        name = (await self.client.datasets.CreateDataset(request)).name

        async def ended() -> Dataset:
            found = await self.client.datasets.GetDataset(GetDatasetRequest(name=name))
            assert found.state != Dataset.State.BUILDING
            return found

        dataset = await eventually(ended, timeout=60)
        assert dataset.state == Dataset.State.READY, dataset.error.message
        return dataset


@asynccontextmanager
async def dataset_builds(folder: Path) -> AsyncIterator[DatasetBuilds]:
    """Run the service over the tokenizer and the template of the starter model."""
    model = _Model(await _import_starter(store(folder)), lambda prompt: "")
    async with (
        nats_server(folder) as nats,
        serving(*model.services()) as running,
        dataset_service(folder, nats.url, running.address, build_workers=1) as server,
    ):
        yield DatasetBuilds(server.client(), model)


async def _import_starter(blobs: Blobs) -> BaseModel:
    model = BaseModel(name=BASE_MODEL, digest=DIGEST, context_tokens=CONTEXT)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        blob = await blobs.put_bytes("library", (_STARTER / name).read_bytes())
        model.files.append(ModelFile(path=name, sha256=blob.sha256, size_bytes=blob.size))
    return model


class _Model(ScriptedInference):
    """A scripted model that can be stopped for its length."""

    async def StreamChat(
        self, request: StreamChatRequest, context: Any
    ) -> AsyncIterator[StreamChatResponse]:
        async for response in super().StreamChat(request, context):
            if response.HasField("finish") and response.text.endswith(CUT):
                response.finish.reason = Finish.FinishReason.LENGTH
            yield response
