"""The composition root of a run: fetch, tune, store, commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

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

from luthier_trainer.run.keeper import Keeper, fetch_state
from luthier_trainer.run.report import TRANSIENT, Board, GaveBack, Reporter, Stopped
from luthier_trainer.run.tune import STATES, Inputs, Outputs, tune
from luthier_trainer.run_settings import EXIT_BAD_DATA, EXIT_GAVE_BACK, RunSettings
from luthier_trainer.validation import GENERAL_ROWS

_FAULTS = (*TRANSIENT, Aborted, DataLoss)
"""Errors after which another try may fare better."""
_AWAY_SECONDS = 600.0
"""How long the store may be away where a run cannot go on without it."""
_RETRY_SECONDS = 1.0
_GIVE_BACK_SECONDS = 15.0
_LAST_SECONDS = 60.0
"""For committing the last state; it is on this machine's disk, too."""
_TRAINING_ROWS, _VALIDATION_ROWS = "training.jsonl", "validation.jsonl"
_REGRESSION_ROWS = "regression.jsonl"

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def run(settings: RunSettings) -> int:
    """Do the job, commit what came of it, and return the exit code."""
    job = Parse(settings.run_job, TrainingJob(), ignore_unknown_fields=True)
    base = Parse(settings.run_base_model, BaseModel(), ignore_unknown_fields=True)
    signer = IdentitySigner(settings.identity_secret.get_secret_value())
    store = await open_object_store(
        settings.objects_url,
        access_key=settings.objects_access_key,
        secret_key=settings.objects_secret_key.get_secret_value(),
    )
    blobs = Blobs(store)
    board = Board()
    # Told to stop (a drain, a node's shutdown, a job of higher priority), it gives its device back.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, board.give_back)
    async with connect(settings.trainer_address, signer=signer) as channel:
        identity = service_identity(project_of(job.name), "run")
        stub = RunServiceStub(channel.with_identity(identity))
        reporter = Reporter(stub, job.name, job.epoch, board)
        keeper = Keeper(stub, store, job, board)
        working = [asyncio.create_task(work.run()) for work in (reporter, keeper)]
        try:
            inputs = await _patiently(lambda: _fetch(blobs, job, base, settings), board)
            states = inputs.folder / STATES
            await _patiently(lambda: fetch_state(store, job, states), board)
            outputs = await asyncio.to_thread(tune, inputs, board)
            project = project_of(job.name)
            result = await _patiently(lambda: _store(blobs, project, outputs), board)
            await _flush(keeper, _LAST_SECONDS)  # what is still to be published on the way
        except GaveBack:
            await _flush(keeper, _GIVE_BACK_SECONDS if board.hurry.is_set() else _LAST_SECONDS)
            logger.info("gave back", extra={"job": job.name})
            return EXIT_GAVE_BACK
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
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
        await reporter.succeed(result)
    return 0


async def _flush(keeper: Keeper, seconds: float) -> None:
    """Give out what is left, again and again while services are away, for so long at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await keeper.flush():  # noqa: ASYNC110 - services are waited for
                await asyncio.sleep(_RETRY_SECONDS)


async def _patiently(work: Callable[[], Awaitable[T]], board: Board) -> T:
    """Do `work`, and again while the store is away, for ten minutes; what `Board.check` raises."""
    end, told = time.monotonic() + _AWAY_SECONDS, False
    while True:
        try:
            return await work()
        except TRANSIENT as error:
            logger.warning("store must be waited for", extra={"cause": error.message})
            if time.monotonic() > end:
                raise
            if not told:
                board.say("The run waits for the object store, which does not answer")
            told = True
        board.check()
        board.beats += 1  # it waits, and does not hang
        await asyncio.sleep(_RETRY_SECONDS)


async def _fetch(blobs: Blobs, job: TrainingJob, base: BaseModel, settings: RunSettings) -> Inputs:
    model = settings.run_cache / base.digest
    files = [(file.path, file.sha256) for file in base.files]
    if folder_digest(files) != job.base_model_digest:
        raise FailedPrecondition(
            f"{base.name} is not the one that the job has pinned", reason="BASE_MODEL_CHANGED"
        )
    await fetch_folder(blobs, project_of(base.name), files, model)
    folder = settings.run_folder
    rows = {
        _TRAINING_ROWS: job.training_file_sha256,
        _VALIDATION_ROWS: job.validation_file_sha256,
        _REGRESSION_ROWS: job.regression_file_sha256,
    }
    wanted = [(path, sha256) for path, sha256 in rows.items() if sha256]
    await fetch_folder(blobs, project_of(job.name), wanted, folder)
    start = folder / "start-adapter" if job.start_adapter_files else None
    if start is not None:
        adapter = [(file.path, file.sha256) for file in job.start_adapter_files]
        await fetch_folder(blobs, project_of(job.name), adapter, start)
    has_general = any(file.path == GENERAL_ROWS for file in base.files)
    return Inputs(
        model=model,
        model_name=job.base_model,
        context_tokens=base.context_tokens,
        parameters=base.parameter_count,
        training_rows=folder / _TRAINING_ROWS,
        validation_rows=folder / _VALIDATION_ROWS if job.validation_file_sha256 else None,
        regression_rows=folder / _REGRESSION_ROWS if job.regression_file_sha256 else None,
        general_rows=model / GENERAL_ROWS if has_general else None,
        hyperparameters=job.resolved_hyperparameters,
        seed=job.seed,
        folder=folder,
        epoch=job.epoch,
        preference=job.HasField("preference"),
        start_adapter=start,
    )


async def _store(blobs: Blobs, project: str, outputs: Outputs) -> TrainingResult:
    async def store(path: Path) -> ArtifactFile:
        blob = await blobs.put_file(project, path)
        return ArtifactFile(path=path.name, sha256=blob.sha256, size_bytes=blob.size)

    return TrainingResult(
        model_files=[await store(path) for path in outputs.model_files],
        metrics=outputs.metrics,
        trained_tokens=outputs.trained_tokens,
        trainable_parameters=outputs.trainable_parameters,
        total_parameters=outputs.total_parameters,
        quantized_layers=outputs.quantized_layers,
        metrics_file=await store(outputs.metrics_file),
        best_step=outputs.best_step,
        measurement=outputs.measurement,
    )
