"""From a run's result to a served model: every step may be repeated."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile, TuningOrigin
from luthier.trainer.v1.training_job_pb2 import ArtifactFile, TrainingJob
from luthier.trainer.v1.tuning_pb2 import TuningMode
from luthier_common.errors import FailedPrecondition
from luthier_common.names import parent_of, project_of
from luthier_common.objects.blobs import Blob, Blobs

from luthier_trainer import gates
from luthier_trainer.manifest import configuration
from luthier_trainer.peers import Peers

METRICS_FILE = "step_metrics.csv"
_WEIGHTS = (".safetensors", ".safetensors.index.json")


@dataclass(frozen=True)
class Published:
    """What came of a job, by resource names."""

    result_files: tuple[str, ...]
    """Files with figures."""
    adapter: str = ""
    """The adapter; empty where all weights were tuned."""
    tuned_base_model: str = ""
    """The model, where all weights were tuned."""
    gate_failure: str = ""
    """Why it is kept and not served; empty when it is served."""


class Publisher:
    """Publishes the results of jobs under names that follow from the job's own."""

    def __init__(self, blobs: Blobs, peers: Peers) -> None:
        self._blobs = blobs
        self._peers = peers

    async def publish(self, job: TrainingJob) -> Published:
        """Store the figures as a file, and publish the adapter or the model.

        A result that does not pass the job's gate is published, too, with the reason why it is
        not served. Repeating it changes nothing. Errors are those of the services that keep what
        is published; FailedPrecondition when the base model is no longer the one that was tuned.
        """
        figures = await self._publish_figures(job)
        base = await self._base(job)
        held = _hold_reason(job, job.result.metrics)
        if job.resolved_hyperparameters.tuning_mode == TuningMode.FULL:
            model = await self._publish_model(job, base, held)
            return Published((figures,), tuned_base_model=model, gate_failure=held)
        adapter = _adapter(job, base, job.result.model_files, job.result.metrics)
        adapter.name, adapter.hold_reason = f"{parent_of(job.name)}/adapters/{_id(job)}", held
        await self._peers.create_adapter(adapter)
        return Published((figures,), adapter=adapter.name, gate_failure=held)

    async def publish_checkpoint(
        self,
        job: TrainingJob,
        step: int,
        files: Iterable[ArtifactFile],
        metrics: Mapping[str, float],
    ) -> str:
        """Publish the adapter of a step, whose files are in the store, and return its name.

        The job's gate holds for it, too: it is not served before it passes. Repeating it changes
        nothing. Errors as of `publish`.
        """
        adapter = _adapter(job, await self._base(job), files, metrics)
        adapter.name = f"{parent_of(job.name)}/adapters/{_id(job)}-s{step}"
        adapter.hold_reason = _hold_reason(job, metrics)
        adapter.configuration["step"] = str(step)
        await self._peers.create_adapter(adapter)
        return adapter.name

    async def _publish_figures(self, job: TrainingJob) -> str:
        parent = parent_of(job.name)
        figures = File(
            name=f"{parent}/files/file-{_digest(job)[:24]}",
            display_name=METRICS_FILE,
            purpose=File.FINE_TUNE_RESULTS,
        )
        chunks = self._blobs.stream(project_of(parent), job.result.metrics_file.sha256)
        await self._peers.create_file(figures, chunks)
        return figures.name

    async def _publish_model(self, job: TrainingJob, base: BaseModel, held: str) -> str:
        tuned = [_model_file(file) for file in job.result.model_files]
        replaced = {file.path for file in tuned}
        kept = [
            file
            for file in base.files
            if file.path not in replaced and not file.path.endswith(_WEIGHTS)
        ]
        for file in kept:
            await self._copy(file, project_of(base.name), project_of(job.name))
        model = BaseModel(
            name=f"{parent_of(job.name)}/baseModels/m{_digest(job)[:16]}",
            display_name=job.suffix,
            files=tuned + kept,
            tuning_origin=TuningOrigin(
                training_job=job.name,
                base_model=base.name,
                base_model_digest=base.digest,
                dataset_digest=job.training_file_sha256,
                configuration=configuration(job),
                metrics=job.result.metrics,
                code_version=importlib.metadata.version("luthier"),
                suffix=job.suffix,
                hold_reason=held,
            ),
        )
        await self._peers.create_base_model(model)
        return model.name

    async def _copy(self, file: ModelFile, source: str, target: str) -> None:
        """Have a file of one project in another: blobs are a project's own."""
        if source == target:
            return
        blob = Blob(file.sha256, file.size_bytes)
        await self._blobs.put_known(target, blob, lambda: self._blobs.stream(source, file.sha256))

    async def _base(self, job: TrainingJob) -> BaseModel:
        base = await self._peers.base_model(parent_of(job.name), job.base_model)
        if base.digest != job.base_model_digest:
            raise FailedPrecondition(
                f"{base.name} is no longer the model that was tuned: its digest is {base.digest}, "
                f"that model's {job.base_model_digest}",
                reason="BASE_MODEL_CHANGED",
            )
        return base


def _adapter(
    job: TrainingJob, base: BaseModel, files: Iterable[ArtifactFile], metrics: Mapping[str, float]
) -> Adapter:
    return Adapter(
        base_model=base.name,
        base_model_digest=base.digest,
        tokenizer_digest=base.tokenizer_digest,
        dataset_digest=job.training_file_sha256,
        files=[_model_file(file) for file in files],
        training_job=job.name,
        configuration=configuration(job),
        metrics=metrics,
        code_version=importlib.metadata.version("luthier"),
        suffix=job.suffix,
    )


def _model_file(file: ArtifactFile) -> ModelFile:
    return ModelFile(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes)


def _hold_reason(job: TrainingJob, metrics: Mapping[str, float]) -> str:
    return gates.failure(job.gate, metrics) if job.HasField("gate") else ""


def _id(job: TrainingJob) -> str:
    return f"a{_digest(job)[:16]}"


def _digest(job: TrainingJob) -> str:
    return hashlib.sha256(job.name.encode()).hexdigest()
