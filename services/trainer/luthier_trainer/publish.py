"""From a run's result to a served adapter: every step may be repeated."""

from __future__ import annotations

import hashlib
import importlib.metadata

from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import ModelFile
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.names import parent_of, project_of
from luthier_common.objects.blobs import Blobs

from luthier_trainer.peers import Peers

METRICS_FILE = "step_metrics.csv"


class Publisher:
    """Publishes the results of jobs under names that follow from the job's own."""

    def __init__(self, blobs: Blobs, peers: Peers) -> None:
        self._blobs = blobs
        self._peers = peers

    async def publish(self, job: TrainingJob) -> tuple[str, str]:
        """Store the figures as a file, publish the adapter, and return both names.

        Repeating it changes nothing. Errors are those of the services that keep them.
        """
        parent, digest = parent_of(job.name), hashlib.sha256(job.name.encode()).hexdigest()
        figures = File(
            name=f"{parent}/files/file-{digest[:24]}",
            display_name=METRICS_FILE,
            purpose=File.FINE_TUNE_RESULTS,
        )
        chunks = self._blobs.stream(project_of(parent), job.result.metrics_file.sha256)
        await self._peers.create_file(figures, chunks)
        base = await self._peers.base_model(parent, job.base_model)
        adapter = _adapter(job, f"{parent}/adapters/a{digest[:16]}", base.tokenizer_digest)
        await self._peers.create_adapter(adapter)
        return figures.name, adapter.name


def _adapter(job: TrainingJob, name: str, tokenizer_digest: str) -> Adapter:
    chosen = job.resolved_hyperparameters
    configuration = {
        "method": "supervised",
        "quantization": "nf4, double",
        "epoch_count": str(chosen.epoch_count),
        "batch_size": str(chosen.batch_size),
        "learning_rate": f"{chosen.learning_rate:g}",
        "lora_rank": str(chosen.lora_rank),
        "lora_alpha": str(chosen.lora_alpha),
        "retain_share": f"{chosen.retain_share:g}",
        "seed": str(job.seed),
    }
    return Adapter(
        name=name,
        base_model=job.base_model,
        base_model_digest=job.base_model_digest,
        tokenizer_digest=tokenizer_digest,
        dataset_digest=job.training_file_sha256,
        files=[
            ModelFile(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in job.result.adapter_files
        ],
        training_job=job.name,
        configuration=configuration,
        metrics=job.result.metrics,
        code_version=importlib.metadata.version("luthier"),
        suffix=job.suffix,
    )
