"""The trainer as its composition root builds it, in this process; runs are played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.run_service_pb2 import (
    CommitResumeStateRequest,
    CompleteRunRequest,
    ReportRunRequest,
    ReportRunResponse,
)
from luthier.trainer.v1.run_service_pb2_grpc import RunServiceStub
from luthier.trainer.v1.training_job_pb2 import (
    ArtifactFile,
    TrainingJob,
    TrainingJobEvent,
    TrainingProgress,
    TrainingResult,
)
from luthier.trainer.v1.training_job_service_pb2 import (
    CancelTrainingJobRequest,
    GetTrainingJobRequest,
    ListTrainingJobEventsRequest,
    ListTrainingJobsRequest,
    PauseTrainingJobRequest,
    ResumeTrainingJobRequest,
)
from luthier.trainer.v1.training_job_service_pb2_grpc import TrainingJobServiceStub
from luthier_common.identity import Identity, IdentitySigner, service_identity
from luthier_common.lifespan import Lifespan
from luthier_common.rpc.client import Channel, connect
from luthier_trainer.app import LauncherFor, build
from luthier_trainer.run_settings import EXIT_GAVE_BACK
from luthier_trainer.settings import TrainerSettings

from tests.support.eventually import eventually
from tests.support.grpc_server import SECRET, caller

if TYPE_CHECKING:
    from luthier.trainer.v1.run_service_pb2_grpc import RunServiceAsyncStub
    from luthier.trainer.v1.training_job_service_pb2_grpc import TrainingJobServiceAsyncStub


@dataclass
class PlayedRun:
    """A run that does what the test makes it do."""

    job: TrainingJob
    base: BaseModel
    folder: Path
    stopped: bool = False
    end: asyncio.Event = field(default_factory=asyncio.Event)
    code: int = 0
    on_stop: Callable[[], Awaitable[int]] | None = None
    """What it does when it is told to stop, and its exit code then; it is killed without."""

    async def wait(self) -> int:
        await self.end.wait()
        return self.code

    async def stop(self, grace_seconds: float) -> None:
        if self.end.is_set():
            return
        self.stopped = True
        try:
            async with asyncio.timeout(grace_seconds):
                self.exit(await self.on_stop() if self.on_stop else -15)
        except TimeoutError:
            self.exit(-9)

    def exit(self, code: int) -> None:
        self.code = code
        self.end.set()


class Stage:
    """A launcher, and all runs that it has launched."""

    def __init__(self) -> None:
        self.runs: list[PlayedRun] = []
        self.refusals: list[OSError] = []
        """What becomes of the next launches."""

    async def launch(self, job: TrainingJob, base: BaseModel, folder: Path) -> PlayedRun:
        if self.refusals:
            raise self.refusals.pop(0)
        run = PlayedRun(job, base, folder)
        self.runs.append(run)
        return run

    async def run(self, number: int = 1) -> PlayedRun:
        """Return the run of that number, counted from 1, once it is launched."""
        await eventually(lambda: len(self.runs) >= number)
        return self.runs[number - 1]


@dataclass(frozen=True)
class TrainerClient:
    """What a test asks a trainer, and says to it."""

    channel: Channel

    def jobs(self, identity: Identity | None = None) -> TrainingJobServiceAsyncStub:
        """Return a client that calls as `identity`."""
        return TrainingJobServiceStub(self.channel.with_identity(identity or caller()))

    def run_service(self, project: str = "acme") -> RunServiceAsyncStub:
        """Return a client that calls as a run of the project."""
        return RunServiceStub(self.channel.with_identity(service_identity(project, "run")))

    async def get(self, name: str) -> TrainingJob:
        """Return a job."""
        return await self.jobs().GetTrainingJob(GetTrainingJobRequest(name=name))

    async def listed(self, project: str = "acme") -> list[TrainingJob]:
        """Return a project's jobs."""
        request = ListTrainingJobsRequest(parent=f"projects/{project}", page_size=1000)
        return list((await self.jobs().ListTrainingJobs(request)).training_jobs)

    async def until(self, name: str, state: TrainingJob.State) -> TrainingJob:
        """Return a job once it has reached a state."""

        async def reached() -> bool:
            return (await self.get(name)).state == state

        await eventually(reached)
        return await self.get(name)

    async def messages(self, name: str) -> list[str]:
        """Return what a job's events say, oldest first."""
        return [event.message for event in await self.events(name)]

    async def events(self, name: str) -> list[TrainingJobEvent]:
        """Return a job's events, oldest first."""
        request = ListTrainingJobEventsRequest(parent=name, page_size=1000, order_by="create_time")
        response = await self.jobs().ListTrainingJobEvents(request)
        return list(response.training_job_events)

    async def cancel(self, name: str) -> TrainingJob:
        """Cancel a job."""
        return await self.jobs().CancelTrainingJob(CancelTrainingJobRequest(name=name))

    async def pause(self, name: str) -> TrainingJob:
        """Pause a job."""
        return await self.jobs().PauseTrainingJob(PauseTrainingJobRequest(name=name))

    async def resume(self, name: str) -> TrainingJob:
        """Resume a job."""
        return await self.jobs().ResumeTrainingJob(ResumeTrainingJobRequest(name=name))

    async def report(
        self, run: PlayedRun, step: int, total: int = 100, *, seconds_left: float = 0.0
    ) -> ReportRunResponse:
        """Report as a run does, and return what it is told."""
        request = ReportRunRequest(
            training_job=run.job.name,
            epoch=run.job.epoch,
            progress=TrainingProgress(
                step=step, total_steps=total, loss=1.0 / max(1, step), seconds_left=seconds_left
            ),
        )
        return await self.run_service().ReportRun(request)

    async def save(self, run: PlayedRun, step: int) -> None:
        """Commit a resume state as a run does."""
        request = CommitResumeStateRequest(
            training_job=run.job.name,
            epoch=run.job.epoch,
            step=step,
            files=[ArtifactFile(path="state.safetensors", sha256="0" * 64, size_bytes=step)],
        )
        await self.run_service().CommitResumeState(request)

    async def give_back(self, run: PlayedRun, step: int) -> None:
        """Commit a resume state and end, as a run does that is told to pause."""
        await self.save(run, step)
        run.exit(EXIT_GAVE_BACK)

    async def complete(self, run: PlayedRun, result: TrainingResult) -> None:
        """Commit a result as a run does, and end it."""
        request = CompleteRunRequest(training_job=run.job.name, epoch=run.job.epoch, result=result)
        await self.run_service().CompleteRun(request)
        run.exit(0)


@dataclass(frozen=True)
class Trainer(TrainerClient):
    """A trainer that runs in this process."""

    stage: Stage
    lifespan: Lifespan


@asynccontextmanager
async def trainer_service(
    folder: Path,
    nats_url: str,
    dataset_address: str,
    inference_address: str,
    *,
    stage: Stage | None = None,
    launcher_for: LauncherFor | None = None,
    **options: Any,
) -> AsyncIterator[Trainer]:
    """Run the trainer; run it again with the same folder and NATS to restart it.

    Runs are played on the `stage`, or launched for real. `options` are settings.
    """
    settings = TrainerSettings(
        nats_url=nats_url,
        objects_url=(folder / "objects").as_uri(),
        identity_secret=SECRET,  # type: ignore[arg-type]
        dataset_address=dataset_address,
        inference_address=inference_address,
        work_dir=folder / "trainer",
        **{"hang_seconds": 60.0, "drain_seconds": 0.0} | options,
    )
    played = stage or Stage()
    async with Lifespan() as lifespan:
        server = await build(settings, lifespan, launcher_for or (lambda *_: played))
        async with connect(server.address, signer=IdentitySigner(SECRET)) as channel:
            yield Trainer(channel, played, lifespan)
