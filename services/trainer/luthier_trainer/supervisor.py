"""One run from launch to end: asked for its place, stopped when cancelled, killed when it hangs."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import FailedPrecondition, Unavailable
from luthier_common.names import id_of, parent_of, project_of
from luthier_common.objects.port import ObjectStore
from luthier_common.records.collection import Collection

from luthier_trainer.jobs import AT_WORK
from luthier_trainer.launchers import Launcher, Run
from luthier_trainer.peers import Peers
from luthier_trainer.resume_states import clear_states, sweep_states
from luthier_trainer.transitions import Ending, ending_of

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 5.0
"""For a run that nothing is wanted of any more."""

logger = logging.getLogger(__name__)


class Supervisor:
    """Launches runs and watches them."""

    def __init__(
        self,
        records: Collection[TrainingJob],
        peers: Peers,
        launcher: Launcher,
        objects: ObjectStore,
        folder: Path,
        *,
        hang_seconds: float,
        give_back_seconds: float,
    ) -> None:
        self._records = records
        self._peers = peers
        self._launcher = launcher
        self._objects = objects
        self._runs = folder / "runs"
        self._hang_seconds = hang_seconds
        self.give_back_seconds = give_back_seconds
        """What a run that is asked for its place has to save its state in, before it is killed."""

    async def base_of(self, job: TrainingJob) -> BaseModel:
        """Return the base model that a job has pinned; NotFound, FailedPrecondition."""
        base = await self._peers.base_model(parent_of(job.name), job.base_model)
        if base.digest != job.base_model_digest:
            raise FailedPrecondition(
                f"{base.name} has changed since the job was created", reason="BASE_MODEL_CHANGED"
            )
        return base

    async def see_through(
        self, job: TrainingJob, base: BaseModel, give_back: asyncio.Event
    ) -> Ending:
        """Launch the run of a claimed job, wait for its end, and say how it ended.

        Once `give_back` is set, the run is asked to save its state and end.
        """
        folder = self._folder_of(job.name)
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            run = await self._launcher.launch(job, base, folder)
        except OSError as error:  # such as a full disk
            return Ending(f"it could not be launched: {error.strerror}")
        end = asyncio.create_task(run.wait())
        asked = asyncio.create_task(give_back.wait())
        try:
            ending = await self._watch(job, run, end, asked)
        finally:
            asked.cancel()
            await run.stop(_STOP_SECONDS)
            end.cancel()
        logger.info("run ended", extra={"job": job.name, "epoch": job.epoch, "how": ending.how})
        return ending

    async def clear(self, job: str) -> None:
        """Remove what the runs of an ended job have left, on the disk and in the store."""
        await asyncio.to_thread(shutil.rmtree, self._folder_of(job), ignore_errors=True)
        await clear_states(self._objects, job)

    async def sweep(self, *, keep: Iterable[str]) -> None:
        """Remove what the runs of all other jobs have left, on the disk and in the store."""
        keep = list(keep)
        await sweep_states(self._objects, keep=keep)
        kept = {self._folder_of(job) for job in keep}
        for folder in await asyncio.to_thread(lambda: list(self._runs.glob("*/*"))):
            if folder not in kept:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _watch(
        self, job: TrainingJob, run: Run, end: asyncio.Task[int], asked: asyncio.Task[Any]
    ) -> Ending:
        etag, heard = job.etag, time.monotonic()
        while True:
            await asyncio.wait(
                [end, asked], timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if asked.done() and not end.done():
                await run.stop(self.give_back_seconds)
                return ending_of(await end, asked=True)
            if end.done():
                return ending_of(end.result(), asked=asked.done())
            try:
                now = await self._records.get(job.name)
            except Unavailable:
                # The records are away, the run is not: nothing to blame it for.
                heard = time.monotonic()
                continue
            if now.state not in AT_WORK or now.epoch != job.epoch:
                return Ending("it was stopped")
            if now.etag != etag:
                etag, heard = now.etag, time.monotonic()
            elif time.monotonic() - heard > self._hang_seconds:
                return Ending(f"no word for {self._hang_seconds:g} seconds")

    def _folder_of(self, job: str) -> Path:
        return self._runs / project_of(job) / id_of(job)
