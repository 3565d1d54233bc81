"""The composition root of a run: fetch, tune, store, commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from google.protobuf.json_format import Parse
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.run_service_pb2_grpc import RunServiceStub
from luthier.trainer.v1.training_job_pb2 import ArtifactFile, TrainingJob, TrainingResult
from luthier_common.errors import Aborted, DataLoss, FailedPrecondition, PlatformError
from luthier_common.identity import IdentitySigner, service_identity
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.folders import fetch_folder, folder_digest
from luthier_common.objects.open import open_object_store
from luthier_common.rpc.client import connect

from luthier_trainer.run.report import TRANSIENT, Board, Reporter, Stopped
from luthier_trainer.run.tune import Inputs, Outputs, tune
from luthier_trainer.run_settings import EXIT_BAD_DATA, RunSettings
from luthier_trainer.validation import GENERAL_ROWS

_FAULTS = (*TRANSIENT, Aborted, DataLoss)
"""Errors after which another try may fare better."""
_TRAINING_ROWS, _VALIDATION_ROWS = "training.jsonl", "validation.jsonl"

logger = logging.getLogger(__name__)


async def run(settings: RunSettings) -> int:
    """Do the job, commit what came of it, and return the exit code."""
    job = Parse(settings.run_job, TrainingJob(), ignore_unknown_fields=True)
    base = Parse(settings.run_base_model, BaseModel(), ignore_unknown_fields=True)
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    blobs = Blobs(
        await open_object_store(
            settings.objects_url,
            access_key=settings.objects_access_key,
            secret_key=settings.objects_secret_key.get_secret_value(),
        )
    )
    board = Board()
    async with connect(settings.trainer_address, signer=signer) as channel:
        identity = service_identity(project_of(job.name), "run")
        stub = RunServiceStub(channel.with_identity(identity))
        reporter = Reporter(stub, job.name, job.epoch, board)
        reporting = asyncio.create_task(reporter.run())
        try:
            inputs = await _fetch(blobs, job, base, settings)
            outputs = await asyncio.to_thread(tune, inputs, board)
            result = await _store(blobs, project_of(job.name), outputs)
        except Stopped:
            logger.info("stopped", extra={"job": job.name})
            return 0
        except PlatformError as error:
            if isinstance(error, _FAULTS):
                raise
            logger.error("cannot be done", extra={"job": job.name, "cause": error.message})
            await reporter.fail(error)
            return EXIT_BAD_DATA
        except Exception as error:
            # For whoever looks at the job; the log has the rest.
            board.say(f"The run failed: {type(error).__name__}: {error}"[:1000])
            with contextlib.suppress(PlatformError):
                await reporter.report()
            raise
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting
        await reporter.succeed(result)
    return 0


async def _fetch(blobs: Blobs, job: TrainingJob, base: BaseModel, settings: RunSettings) -> Inputs:
    model = settings.run_cache / base.digest
    files = [(file.path, file.sha256) for file in base.files]
    if folder_digest(files) != job.base_model_digest:
        raise FailedPrecondition(
            f"{base.name} is not the one that the job has pinned", reason="BASE_MODEL_CHANGED"
        )
    await fetch_folder(blobs, project_of(base.name), files, model)
    rows = {_TRAINING_ROWS: job.training_file_sha256, _VALIDATION_ROWS: job.validation_file_sha256}
    wanted = [(path, sha256) for path, sha256 in rows.items() if sha256]
    await fetch_folder(blobs, project_of(job.name), wanted, settings.run_folder)
    has_general = any(file.path == GENERAL_ROWS for file in base.files)
    return Inputs(
        model=model,
        model_name=job.base_model,
        context_tokens=base.context_tokens,
        parameters=base.parameter_count,
        training_rows=settings.run_folder / _TRAINING_ROWS,
        validation_rows=settings.run_folder / _VALIDATION_ROWS if len(wanted) > 1 else None,
        general_rows=model / GENERAL_ROWS if has_general else None,
        hyperparameters=job.resolved_hyperparameters,
        seed=job.seed,
        folder=settings.run_folder,
    )


async def _store(blobs: Blobs, project: str, outputs: Outputs) -> TrainingResult:
    async def store(path: Path) -> ArtifactFile:
        blob = await blobs.put_file(project, path)
        return ArtifactFile(path=path.name, sha256=blob.sha256, size_bytes=blob.size)

    return TrainingResult(
        adapter_files=[await store(path) for path in outputs.adapter_files],
        metrics=outputs.metrics,
        trained_tokens=outputs.trained_tokens,
        trainable_parameters=outputs.trainable_parameters,
        total_parameters=outputs.total_parameters,
        quantized_layers=outputs.quantized_layers,
        metrics_file=await store(outputs.metrics_file),
    )
