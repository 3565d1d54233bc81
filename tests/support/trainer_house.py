"""What a training job passes through, in this process, with one file and one base model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1 import training_job_service_pb2 as api
from luthier.trainer.v1.training_job_pb2 import ArtifactFile, TrainingJob, TrainingResult
from luthier.trainer.v1.tuning_pb2 import Hyperparameters, SupervisedTuningSpec

from tests.support.inference_service import Inference, inference_service
from tests.support.scripted_datasets import ScriptedDatasets, scripted_datasets
from tests.support.trainer_service import Stage, Trainer, trainer_service

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

FIGURES = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.5,0.1,,\n"
"""What a run's file of figures holds."""


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

    async def result(self, adapter: Path) -> TrainingResult:
        """Store an adapter's files and the figures as a run does."""
        files = [await self.inference.upload(path, "acme") for path in sorted(adapter.iterdir())]
        figures = await self.inference.blobs.put_bytes("acme", FIGURES)
        return TrainingResult(
            model_files=[
                ArtifactFile(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes)
                for file in files
            ],
            metrics={"train_loss": 0.5},
            trained_tokens=123,
            trainable_parameters=10,
            total_parameters=100,
            quantized_layers=14,
            metrics_file=ArtifactFile(
                path="step_metrics.csv", sha256=figures.sha256, size_bytes=figures.size
            ),
        )

    def restarted(
        self, folder: Path, stage: Stage | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Trainer]:
        """Run a trainer in the place of one that has ended; `options` as of `trainer_service`."""
        addresses = (self.dataset.address, self.inference.address)
        return trainer_service(folder, self.inference.nats_url, *addresses, stage=stage, **options)


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
