"""One run from launch to end: stopped when its job is cancelled, killed when it hangs."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import FailedPrecondition, Unavailable
from luthier_common.names import id_of, parent_of, project_of
from luthier_common.records.collection import Collection

from luthier_trainer.launchers import Launcher, Run
from luthier_trainer.peers import Peers

_LOOK_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Supervisor:
    """Launches runs and watches them."""

    def __init__(
        self,
        records: Collection[TrainingJob],
        peers: Peers,
        launcher: Launcher,
        folder: Path,
        *,
        hang_seconds: float,
    ) -> None:
        self._records = records
        self._peers = peers
        self._launcher = launcher
        self._runs = folder / "runs"
        self._hang_seconds = hang_seconds

    async def base_of(self, job: TrainingJob) -> BaseModel:
        """Return the base model that a job has pinned; NotFound, FailedPrecondition."""
        base = await self._peers.base_model(parent_of(job.name), job.base_model)
        if base.digest != job.base_model_digest:
            raise FailedPrecondition(
                f"{base.name} has changed since the job was created", reason="BASE_MODEL_CHANGED"
            )
        return base

    async def see_through(self, job: TrainingJob, base: BaseModel) -> str:
        """Launch the run of a claimed job, wait for its end, and say how it ended."""
        folder = self._folder_of(job.name)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        run = await self._launcher.launch(job, base, folder)
        end = asyncio.create_task(run.wait())
        try:
            how = await self._watch(job, run, end)
        finally:
            await run.stop()
            end.cancel()
        logger.info("run ended", extra={"job": job.name, "epoch": job.epoch, "how": how})
        return how

    async def clear(self, job: str) -> None:
        """Remove what the runs of an ended job have left on the disk."""
        await asyncio.to_thread(shutil.rmtree, self._folder_of(job), ignore_errors=True)

    async def sweep(self, *, keep: Iterable[str]) -> None:
        """Remove what the runs of all other jobs have left on the disk."""
        kept = {self._folder_of(job) for job in keep}
        for folder in await asyncio.to_thread(lambda: list(self._runs.glob("*/*"))):
            if folder not in kept:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _watch(self, job: TrainingJob, run: Run, end: asyncio.Task[int]) -> str:
        etag, heard = job.etag, time.monotonic()
        while True:
            await asyncio.wait([end], timeout=_LOOK_SECONDS)
            if end.done():
                code = end.result()
                return f"signal {-code}" if code < 0 else f"exit code {code}"
            try:
                now = await self._records.get(job.name)
            except Unavailable:
                # The records are away, the run is not: nothing to blame it for.
                heard = time.monotonic()
                continue
            if now.state != TrainingJob.RUNNING or now.epoch != job.epoch:
                return "it was stopped"
            if now.etag != etag:
                etag, heard = now.etag, time.monotonic()
            elif time.monotonic() - heard > self._hang_seconds:
                return f"no word for {self._hang_seconds:g} seconds"

    def _folder_of(self, job: str) -> Path:
        return self._runs / project_of(job) / id_of(job)
