"""What a run gives out on its way: resume states, for the next run, and published snapshots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.trainer.v1.run_service_pb2 import (
    CommitResumeStateRequest,
    PublishCheckpointRequest,
)
from luthier.trainer.v1.training_job_pb2 import ArtifactFile, TrainingJob
from luthier_common.errors import DataLoss, PlatformError
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.folders import fetch_folder
from luthier_common.objects.port import ObjectStore

from luthier_trainer.resume_states import state_blobs
from luthier_trainer.run import resume_state
from luthier_trainer.run.report import Board, Snapshot, is_over, is_transient

if TYPE_CHECKING:
    # The typed side of the stub exists for type checkers only.
    from luthier.trainer.v1.run_service_pb2_grpc import RunServiceAsyncStub

_LOOK_SECONDS = 0.2
_PUBLISH_SECONDS = 120.0  # every byte is verified
_KEPT = 2
"""States of this run that stay in the store."""

logger = logging.getLogger(__name__)


class Keeper:
    """Stores and commits what the training thread has saved; a failure never ends the run."""

    def __init__(
        self, stub: RunServiceAsyncStub, store: ObjectStore, job: TrainingJob, board: Board
    ) -> None:
        self._stub = stub
        self._job = job
        self._board = board
        self._project = project_of(job.name)
        self._states = state_blobs(store, job.name, job.epoch)
        self._blobs = Blobs(store)
        self._stored: list[list[ArtifactFile]] = []
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Commit states as they come, until cancelled."""
        while True:
            await self.flush()
            await asyncio.sleep(_LOOK_SECONDS)

    async def flush(self) -> bool:
        """Publish the snapshots that wait, and commit the newest of the states: an older one has
        had its day. Return whether nothing is left to be done."""
        async with self._lock:  # the last flush waits for one under way
            newest: Path | None = None
            while not self._board.states.empty():
                newest = self._board.states.get()
            if newest is not None:
                done = await self._try(self._commit(newest), newest.name)
                if not done and self._board.states.empty():
                    self._board.states.put(newest)
            while not self._board.snapshots.empty():
                snapshot = self._board.snapshots.get()
                if not await self._try(self._publish(snapshot), f"snapshot {snapshot.step}"):
                    self._board.snapshots.put(snapshot)
                    break
            return self._board.states.empty() and self._board.snapshots.empty()

    async def _try(self, work: Coroutine[None, None, None], what: str) -> bool:
        """Return whether it is done, or can never be."""
        try:
            await work
        except PlatformError as error:
            if is_over(error, self._job.name):
                logger.warning("the run is over", extra={"what": what, "cause": error.message})
                self._board.stop.set()
            elif is_transient(error):  # such as a state that was saved anew while it was stored
                logger.warning("must wait", extra={"what": what, "cause": error.message})
                return False
            else:
                logger.error("not kept", extra={"what": what, "cause": error.message})
        except OSError as error:
            logger.error("not kept", extra={"what": what, "cause": str(error)})
        return True

    async def _publish(self, snapshot: Snapshot) -> None:
        request = PublishCheckpointRequest(
            training_job=self._job.name,
            epoch=self._job.epoch,
            step=snapshot.step,
            metrics=snapshot.metrics,
        )
        for path in snapshot.files:
            blob = await self._blobs.put_file(self._project, path)
            request.files.add(path=path.name, sha256=blob.sha256, size_bytes=blob.size)
        await self._stub.PublishCheckpoint(request, timeout=_PUBLISH_SECONDS)

    async def _commit(self, state: Path) -> None:
        files = []
        for name in resume_state.files_of(state):
            blob = await self._states.put_file(self._project, state / name)
            files.append(ArtifactFile(path=name, sha256=blob.sha256, size_bytes=blob.size))
        await self._stub.CommitResumeState(
            CommitResumeStateRequest(
                training_job=self._job.name,
                epoch=self._job.epoch,
                step=resume_state.step_of(state),
                files=files,
            )
        )
        await self._keep_last(files)

    async def _keep_last(self, files: list[ArtifactFile]) -> None:
        self._stored.append(files)
        kept = {file.sha256 for state in self._stored[-_KEPT:] for file in state}
        for state in self._stored[:-_KEPT]:
            for file in state:
                if file.sha256 not in kept:
                    await self._states.delete(self._project, file.sha256)
        del self._stored[:-_KEPT]


async def fetch_state(store: ObjectStore, job: TrainingJob, states: Path) -> None:
    """Have the job's committed state below `states`, unless one of as many steps is there.

    A state that the store has lost is passed over: the run begins with an older one, or anew.
    """
    committed = job.resume_state
    here = resume_state.newest(states)
    if not committed.files or (here and resume_state.step_of(here) >= committed.step):
        return
    target = resume_state.folder_of(states / str(committed.epoch), committed.step)
    blobs = state_blobs(store, job.name, committed.epoch)
    files = [(file.path, file.sha256) for file in committed.files]
    try:
        await fetch_folder(blobs, project_of(job.name), files, target)
    except DataLoss as error:
        logger.error("state lost", extra={"job": job.name, "cause": error.message})
