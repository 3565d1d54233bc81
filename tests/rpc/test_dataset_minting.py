"""What a build mints: no copy on the way, and no file that the dataset does not name."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import CreateDatasetRequest, GetDatasetRequest
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.file_service_pb2 import GetFileRequest
from luthier.dataset.v1.recipe_pb2 import HeadingsRecipe, Recipe
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_dataset import datasets, files
from luthier_dataset.build.make import Build
from luthier_dataset.build.pipeline import Report
from luthier_dataset.builder import Builder
from luthier_dataset.files import Files
from luthier_dataset.metrics import Metrics
from prometheus_client import CollectorRegistry

from tests.support.dataset_service import dataset_service, store
from tests.support.eventually import eventually
from tests.support.grpc_server import serving
from tests.support.nats_server import nats_server
from tests.support.scripted_inference import BASE_MODEL, ScriptedInference, import_base_model

NAME = "projects/acme/datasets/one"
TRAIN, VALIDATION = "projects/acme/files/train", "projects/acme/files/validation"
ROW = b'{"text": "A fact."}'


async def test_finished_rows_pass_through_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScriptedInference(await import_base_model(store(tmp_path)), lambda prompt: "")
    async with (
        nats_server(tmp_path) as nats,
        serving(*model.services()) as inference,
        dataset_service(tmp_path, nats.url, inference.address, build_workers=1) as server,
    ):
        client = server.client()
        source = await client.upload(b"# A\n\nEveryone at Acme gets 24 days of leave.\n", "a.md")
        draft = Dataset(
            source_files=[source.name],
            recipes=[Recipe(headings=HeadingsRecipe())],
            base_model=BASE_MODEL,
        )
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
        request = CreateDatasetRequest(parent="projects/acme", dataset=draft)
        name = (await client.datasets.CreateDataset(request)).name

        async def ended() -> Dataset:
            found = await client.datasets.GetDataset(GetDatasetRequest(name=name))
            assert found.state != Dataset.State.BUILDING
            return found

        dataset = await eventually(ended, timeout=30)
        assert dataset.state == Dataset.State.READY, dataset.error.message
        file = await client.files.GetFile(GetFileRequest(name=dataset.file))
        assert file.dataset == name
        assert b"24 days of leave" in await client.download(file.name)


Ending = Callable[[Dataset], None]


class Overtaken(Build):
    """Mints two files, and then the dataset's record is ended by somebody else."""

    ending: Ending
    records: Collection[Dataset]
    stored: Files

    async def make(self, dataset: Dataset, report: Report) -> Dataset:
        async def chunks() -> AsyncIterator[bytes]:
            yield ROW

        draft = File(display_name="rows.jsonl", purpose=File.Purpose.FINE_TUNE)
        for file_id in ("train", "validation"):
            await self.stored.create("projects/acme", draft, file_id, chunks(), dataset=NAME)

        def change(record: Dataset) -> Dataset:
            self.ending(record)
            return record

        await self.records.update(dataset.name, change)
        return Dataset(file=TRAIN, validation_file=VALIDATION)


def deleted(record: Dataset) -> None:
    record.delete_time.GetCurrentTime()


def ready(*named: str) -> Ending:
    def end(record: Dataset) -> None:
        record.state = Dataset.State.READY
        record.file, record.validation_file = named

    return end


def failed(record: Dataset) -> None:
    record.state = Dataset.State.FAILED


@pytest.mark.parametrize(
    ("ending", "kept"),
    [
        (deleted, set()),
        (failed, set()),
        (ready("projects/acme/files/other", ""), set()),
        (ready(TRAIN, "projects/acme/files/other"), {TRAIN}),
        (ready(TRAIN, VALIDATION), {TRAIN, VALIDATION}),
    ],
)
async def test_a_build_that_came_too_late_takes_back_what_nobody_names(
    tmp_path: Path, ending: Ending, kept: set[str]
) -> None:
    memory, metrics, blobs = MemoryRecords(), Metrics(CollectorRegistry()), store(tmp_path)
    unused: Any = None
    async with (
        Collection(memory, File, files.PATTERN) as file_records,
        Collection(memory, Dataset, datasets.PATTERN) as records,
    ):
        stored = Files(file_records, blobs, metrics, max_bytes=1000, dependents_of=lambda file: [])
        build = Overtaken(stored, blobs, unused, unused, unused, tmp_path / "builds", workers=1)
        build.ending, build.records, build.stored = ending, records, stored
        await records.create(NAME, Dataset(state=Dataset.State.BUILDING))
        builder = asyncio.create_task(Builder(records, build, metrics).run())
        try:
            await eventually(lambda: len(file_records.values()) == 2)
            await eventually(lambda: {file.name for file in stored.minted_by(NAME)} == kept)
        finally:
            builder.cancel()
            await asyncio.wait([builder])
