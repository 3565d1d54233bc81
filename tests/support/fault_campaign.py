"""Jobs that are not left in peace: what is done to them, and what must be true all the time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import ListAdaptersRequest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.training_job_service_pb2 import CreateTrainingJobRequest
from luthier.trainer.v1.tuning_pb2 import FP32, Hyperparameters, SupervisedTuningSpec
from luthier_common.errors import PlatformError

from tests.support.eventually import eventually
from tests.support.forked_runs import ForkServer, LiveRun
from tests.support.inference_service import Inference, inference_service
from tests.support.scripted_datasets import scripted_datasets
from tests.support.trainer_house import ACME
from tests.support.trainer_process import TrainerProcess
from tests.support.trainer_service import TrainerClient

FINAL = frozenset({TrainingJob.SUCCEEDED, TrainingJob.FAILED, TrainingJob.CANCELLED})
DONE = "The job has successfully completed"
ROWS, BATCH, EPOCHS = 8, 2, 4
STEPS = ROWS // BATCH * EPOCHS
HANG_SECONDS = 3.0
PLACES = 3
TRAINING = b"".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"Item {name}?"},
                {"role": "assistant", "content": f"It is {name * 3}."},
            ]
        }
    ).encode()
    + b"\n"
    for name in "abcdefgh"
)
VALIDATION = b"".join(b'{"text": "It is %s."}\n' % name for name in (b"aaa", b"zzz"))
"""Texts, which ask no questions: answers take their time."""
_WITH_TRAINER = "killed with the trainer"
_KILLS = ("SIGKILL", "SIGTERM", "zombie", "hang", _WITH_TRAINER)
_STEP_SECONDS = 0.1
_LOOK_SECONDS = 0.05


class History:
    """What was seen of jobs, looking again and again, and what of it must not be."""

    def __init__(self) -> None:
        self.jobs: dict[str, TrainingJob] = {}
        """As last seen."""
        self.violations: list[str] = []

    def see(self, now: TrainingJob) -> None:
        """Compare a job with what it was."""
        before = self.jobs.get(now.name)
        if before is not None:
            if before.update_time.ToNanoseconds() >= now.update_time.ToNanoseconds():
                return  # the same, or an older answer that came later
            self.violations += [f"{now.name}: {what}" for what in _violations(before, now)]
        self.jobs[now.name] = now

    async def watch(self, trainer: TrainerClient, name: str) -> None:
        """Follow one job until it has ended."""
        while name not in self.jobs or self.jobs[name].state not in FINAL:
            self.see(await trainer.get(name))
            await asyncio.sleep(0.01)


def _violations(before: TrainingJob, now: TrainingJob) -> list[str]:
    found = []
    if now.epoch < before.epoch:
        found.append(f"epoch {now.epoch} after {before.epoch}")
    was, committed = before.resume_state, now.resume_state
    if (committed.epoch, committed.step) < (was.epoch, was.step) or committed.step < was.step:
        found.append(
            f"step {committed.step} of epoch {committed.epoch} committed after "
            f"step {was.step} of epoch {was.epoch}"
        )
    if before.HasField("result") and now.result != before.result:
        found.append("a result was replaced")
    if before.state in FINAL:
        found.append("it changed after its end")
    steps = [checkpoint.step for checkpoint in now.checkpoints]
    if len(set(steps)) < len(steps):
        found.append(f"checkpoints published twice: {steps}")
    return found


def bytes_of(adapter: Adapter) -> dict[str, str]:
    """Return what an adapter is made of: SHA-256 by path."""
    return {file.path: file.sha256 for file in adapter.files}


async def adapters_of(inference: Inference, job: str) -> dict[str, Adapter]:
    """Return what a job has published, by name."""
    found: dict[str, Adapter] = {}
    token = ""
    while True:
        request = ListAdaptersRequest(parent=ACME, page_size=100, page_token=token)
        response = await inference.adapters().ListAdapters(request)
        found |= {
            adapter.name: adapter for adapter in response.adapters if adapter.training_job == job
        }
        token = response.next_page_token
        if not token:
            return found


def sixteen_steps(
    base: str, rows: str, judged: str, seed: int, *, packing: bool = True
) -> TrainingJob:
    """Return a job that is judged at every second step and published on the way, twice."""
    chosen = Hyperparameters(
        epoch_count=EPOCHS,
        batch_size=BATCH,
        lora_rank=4,
        base_precision=FP32,
        packing=packing,
    )
    return TrainingJob(
        base_model=base,
        training_file=rows,
        validation_file=judged,
        seed=seed,
        supervised=SupervisedTuningSpec(hyperparameters=chosen),
    )


def steps_done(trace: Path, job: str) -> dict[int, list[int]]:
    """Return the steps that the runs of a job have noted, by epoch."""
    found: dict[int, list[int]] = {}
    for line in trace.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["job"] == job:
            found.setdefault(entry["epoch"], []).append(entry["step"])
    return found


class Store:
    """The objects of a folder, which can be out of reach for a while, for every process."""

    def __init__(self, folder: Path) -> None:
        self._real = folder / "objects.real"
        self._link = folder / "objects"
        self._real.mkdir()
        self.give()

    def take(self) -> None:
        """From now on everything fails, and not as if it were not there."""
        self._point_to(self._link)

    def give(self) -> None:
        """From now on everything is as before."""
        self._point_to(self._real)

    def _point_to(self, target: Path) -> None:
        fresh = self._link.with_name("objects.new")
        fresh.symlink_to(target)
        fresh.replace(self._link)


@dataclass
class Campaign:
    """A platform whose trainer is a process and whose runs are forks, and what is done to it."""

    inference: Inference
    process: TrainerProcess
    forks: ForkServer
    store: Store
    trace: Path
    """Where the runs note each step."""
    chance: random.Random
    base: BaseModel
    rows: File
    judged: File
    history: History = field(default_factory=History)
    done: Counter[str] = field(default_factory=Counter)
    """What was done, by name."""
    zombies: set[tuple[str, int]] = field(default_factory=set)
    """Jobs and epochs of runs that went on after they were given up."""
    calm: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the ground shall shake no more."""

    @property
    def kills(self) -> int:
        """Runs that were killed, told to end, or frozen and given up."""
        return sum(self.done[what] for what in _KILLS)

    @property
    def jobs(self) -> list[TrainingJob]:
        """All jobs, as last seen."""
        return list(self.history.jobs.values())

    async def create(self, seed: int) -> str:
        """Create a job, however long it takes, and return its name."""
        request = CreateTrainingJobRequest(
            parent=ACME,
            training_job=sixteen_steps(self.base.name, self.rows.name, self.judged.name, seed),
            request_id=str(uuid.uuid4()),
        )
        while True:
            with contextlib.suppress(PlatformError):
                job = await self.process.trainer.jobs().CreateTrainingJob(request)
                self.history.see(job)
                return job.name
            await asyncio.sleep(_LOOK_SECONDS)

    async def watch(self) -> None:
        """Look at all jobs again and again, until cancelled."""
        while True:
            with contextlib.suppress(PlatformError):
                for job in await self.process.trainer.listed():
                    self.history.see(job)
            await asyncio.sleep(_LOOK_SECONDS)

    async def see_through(self, seed: int, faults: int) -> str:
        """Create a job, do so many things to it, and return its name once it has ended."""
        name = await self.create(seed)
        for step in sorted(self.chance.randrange(STEPS) for _ in range(faults)):
            found = await self._reach(name, step)
            if found is None:
                break
            await self._harm(*found)
        await eventually(lambda: self.history.jobs[name].state in FINAL, 240)
        return name

    async def _reach(self, name: str, step: int) -> tuple[TrainingJob, LiveRun] | None:
        """Wait for a run that has got so far; None when the job has ended."""
        async with asyncio.timeout(240):
            while True:
                job = self.history.jobs[name]
                if job.state in FINAL:
                    return None
                if job.state == TrainingJob.RUNNING and _may_be_harmed(job, step):
                    for run in self.forks.runs():
                        if (run.job, run.epoch) == (name, job.epoch):
                            return job, run
                await asyncio.sleep(_LOOK_SECONDS)

    async def _harm(self, job: TrainingJob, run: LiveRun) -> None:
        (what,) = self.chance.choices(
            ["SIGKILL", "SIGTERM", "zombie", "hang", "pause"], [50, 22, 14, 4, 10]
        )
        self.done[what] += 1
        match what:
            case "SIGKILL":
                run.send(signal.SIGKILL)
            case "SIGTERM":
                run.send(signal.SIGTERM)
            case "hang":
                run.send(signal.SIGSTOP)
            case "zombie":
                await self._make_zombie(run)
            case "pause":
                await self._pause(job.name)
        await self._until_over(job)

    async def _until_over(self, job: TrainingJob) -> None:
        """Wait until the run of this epoch is not the job's any more."""

        def over() -> bool:
            now = self.history.jobs[job.name]
            return now.epoch > job.epoch or now.state != TrainingJob.RUNNING

        await eventually(over, 120)

    async def _make_zombie(self, run: LiveRun) -> None:
        self.zombies.add((run.job, run.epoch))
        run.send(signal.SIGSTOP)
        self.forks.lose(run.pid)
        try:
            await eventually(lambda: self._has_successor(run), 60)
        finally:
            run.send(signal.SIGCONT)

    def _has_successor(self, run: LiveRun) -> bool:
        job = self.history.jobs[run.job]
        return job.state in FINAL or job.resume_state.epoch > run.epoch

    async def _pause(self, name: str) -> None:
        for call in (self.process.trainer.pause, self.process.trainer.resume):
            while self.history.jobs[name].state not in FINAL:
                try:
                    self.history.see(await call(name))
                    break
                except PlatformError:  # away, saving its state, or ended
                    await asyncio.sleep(_LOOK_SECONDS)

    async def shake(self, pause_seconds: float) -> None:
        """Do something to what all jobs stand on, again and again, until `calm`."""
        shocks = [self._restart, self._crash, self._lose_nats, self._lose_store]
        while not self.calm.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.chance.uniform(0.5, 1.5) * pause_seconds):
                    await self.calm.wait()
                    return
            # Three faults in a row that no run is to blame for would end a job.
            if all(job.fault_count < 2 for job in self.jobs if job.state not in FINAL):
                shock = self.chance.choice(shocks)
                self.done[shock.__name__.strip("_")] += 1
                await shock()

    async def _restart(self) -> None:
        """Drain the trainer."""
        assert await self.process.stop() == 0
        await self.process.start()

    async def _crash(self) -> None:
        """Kill the trainer, and its runs with it."""
        runs = [run for run in self.forks.runs() if (run.job, run.epoch) not in self.zombies]
        self.done[_WITH_TRAINER] += len(runs)
        await self.process.kill()
        await self.process.start()

    async def _lose_nats(self) -> None:
        await self.inference.nats.kill()
        await asyncio.sleep(self.chance.uniform(0.1, 1.0))
        await self.inference.nats.start()

    async def _lose_store(self) -> None:
        self.store.take()
        await asyncio.sleep(self.chance.uniform(0.1, 0.6))
        self.store.give()


def _may_be_harmed(job: TrainingJob, step: int) -> bool:
    """A run that has saved nothing yet is harmed once only: three faults in a row end a job."""
    saved = job.resume_state.epoch == job.epoch
    return job.progress.step >= step if saved else step == 0 and job.fault_count == 0


@asynccontextmanager
async def open_campaign(
    folder: Path, snapshot: Path, forks: ForkServer, seed: int
) -> AsyncIterator[Campaign]:
    """Open a platform for it."""
    store, trace = Store(folder), folder / "trace.jsonl"
    trace.touch()
    faults = {"quickly": {"step_seconds": _STEP_SECONDS, "trace": str(trace)}}
    async with AsyncExitStack() as stack:
        inference = await stack.enter_async_context(inference_service(folder))
        base = await inference.import_base(snapshot)
        dataset = await stack.enter_async_context(scripted_datasets(inference.blobs))
        settings = {
            "NATS_URL": inference.nats_url,
            "DATASET_ADDRESS": dataset.address,
            "INFERENCE_ADDRESS": inference.address,
            "MAX_RUNS": str(PLACES),
            "HANG_SECONDS": str(HANG_SECONDS),
        }
        process = TrainerProcess(folder, forks, faults, settings)
        stack.push_async_callback(process.close)
        await process.start()
        campaign = Campaign(
            inference,
            process,
            forks,
            store,
            trace,
            random.Random(seed),
            base,
            await dataset.add(TRAINING),
            await dataset.add(VALIDATION),
        )
        watching = asyncio.create_task(campaign.watch())
        try:
            yield campaign
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
