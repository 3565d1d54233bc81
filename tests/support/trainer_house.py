"""What a training job passes through, in this process, with one file and one base model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1 import training_job_service_pb2 as api
from luthier.trainer.v1.training_job_pb2 import (
    Hyperparameters,
    SupervisedTuningSpec,
    TrainingJob,
)

from tests.support.inference_service import Inference, inference_service
from tests.support.scripted_datasets import ScriptedDatasets, scripted_datasets
from tests.support.trainer_service import Trainer, trainer_service

ACME = "projects/acme"
ROWS = b"".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"question {n}?"},
                {"role": "assistant", "content": f"answer {n}"},
            ]
        }
    ).encode()
    + b"\n"
    for n in range(20)
)


class House:
    """Inference and trainer, a scripted dataset service, a base model and a file of rows."""

    def __init__(
        self,
        inference: Inference,
        dataset: ScriptedDatasets,
        trainer: Trainer,
        base: BaseModel,
        rows: File,
    ) -> None:
        self.inference = inference
        self.dataset = dataset
        self.trainer = trainer
        self.base = base
        self.rows = rows

    def draft(self, **fields: Any) -> TrainingJob:
        """Return a job to create."""
        spec = SupervisedTuningSpec(hyperparameters=Hyperparameters())
        values: dict[str, Any] = {
            "base_model": self.base.name,
            "training_file": self.rows.name,
            "supervised": spec,
        }
        return TrainingJob(**(values | fields))

    async def create(self, draft: TrainingJob | None = None, **fields: Any) -> TrainingJob:
        """Create a job."""
        request = api.CreateTrainingJobRequest(
            parent=ACME, training_job=draft or self.draft(), **fields
        )
        return await self.trainer.jobs().CreateTrainingJob(request)


@asynccontextmanager
async def open_house(folder: Path, snapshot: Path, **options: Any) -> AsyncIterator[House]:
    """Run the services on fresh records; `options` are those of `trainer_service`."""
    async with AsyncExitStack() as stack:
        inference = await stack.enter_async_context(inference_service(folder))
        base = await inference.import_base(snapshot)
        dataset = await stack.enter_async_context(scripted_datasets(inference.blobs))
        trainer = await stack.enter_async_context(
            trainer_service(
                folder, inference.nats_url, dataset.address, inference.address, **options
            )
        )
        yield House(inference, dataset, trainer, base, await dataset.add(ROWS))
