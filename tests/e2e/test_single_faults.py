"""One fault at a time: what becomes of a job, and what is said of it."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_trainer import run_reports

from tests.support.eventually import eventually
from tests.support.fault_campaign import (
    FINAL,
    STEPS,
    TRAINING,
    VALIDATION,
    History,
    Store,
    adapters_of,
    bytes_of,
    sixteen_steps,
    steps_done,
)
from tests.support.forked_runs import Faults, ForkServer, LiveRun
from tests.support.tiny_model import save_base
from tests.support.trainer_house import House, open_house


@dataclass(frozen=True)
class Shop:
    """A house whose runs are forks, and one job in it."""

    house: House
    forks: ForkServer
    store: Store
    trace: Path
    job: str
    folder: Path

    async def get(self) -> TrainingJob:
        return await self.house.trainer.get(self.job)

    async def until(self, step: int) -> TrainingJob:
        """Return the job once a state of so many steps is committed."""

        async def committed() -> TrainingJob | None:
            job = await self.get()
            return job if job.resume_state.step >= step else None

        found = await eventually(committed, 60)
        assert found is not None
        return found

    async def until_done(self, step: int) -> None:
        """Wait until a run has done so many steps, whoever knows of it."""
        await eventually(lambda: self.last_step() >= step, 60)

    def last_step(self) -> int:
        done = steps_done(self.trace, self.job)
        return max((step for steps in done.values() for step in steps), default=0)

    async def ended(self) -> TrainingJob:
        async def final() -> bool:
            return (await self.get()).state in FINAL

        await eventually(final, 60)
        return await self.get()

    async def succeeded(self) -> TrainingJob:
        job = await self.ended()
        assert job.state == TrainingJob.SUCCEEDED, (job.error, await self.told())
        return job

    async def run(self, epoch: int = 1) -> LiveRun:
        def alive() -> LiveRun | None:
            found = [run for run in self.forks.runs() if (run.job, run.epoch) == (self.job, epoch)]
            return found[0] if found else None

        found = await eventually(alive, 30)
        assert found is not None
        return found

    async def told(self) -> list[str]:
        return await self.house.trainer.messages(self.job)

    async def adapter(self) -> dict[str, str]:
        """Return the bytes of the one adapter that is the job's result."""
        job = await self.get()
        found = await adapters_of(self.house.inference, self.job)
        assert list(found) == sorted([job.adapter, *(c.adapter for c in job.checkpoints)])
        return bytes_of(found[job.adapter])


@asynccontextmanager
async def open_shop(
    folder: Path,
    snapshot: Path,
    forks: ForkServer,
    *,
    step_seconds: float = 0.0,
    faults: Faults | None = None,
    packing: bool = True,
    **options: Any,
) -> AsyncIterator[Shop]:
    """Open a house and create a job in it."""
    store, trace = Store(folder), folder / "trace.jsonl"
    trace.touch()
    quickly = {"quickly": {"step_seconds": step_seconds, "trace": str(trace)}}
    launcher_for = partial(forks.launcher, faults={**quickly, **(faults or {})})
    async with open_house(folder, snapshot, launcher_for=launcher_for, **options) as house:
        rows, judged = await house.dataset.add(TRAINING), await house.dataset.add(VALIDATION)
        draft = sixteen_steps(house.base.name, rows.name, judged.name, seed=0, packing=packing)
        job = await house.create(draft)
        yield Shop(house, forks, store, trace, job.name, folder)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(
    tmp_path_factory: pytest.TempPathFactory, snapshot: Path, forks: ForkServer
) -> dict[str, str]:
    """The bytes of the adapter that comes of a job that is left alone."""
    async with open_shop(tmp_path_factory.mktemp("whole"), snapshot, forks) as shop:
        await shop.succeeded()
        return await shop.adapter()


async def test_a_run_goes_on_while_nats_is_away_and_commits_when_it_is_back(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1) as shop:
        await shop.until(3)
        await shop.house.inference.nats.kill()
        await shop.until_done(STEPS)
        await shop.house.inference.nats.start()
        job = await shop.succeeded()
        assert (job.epoch, job.fault_count) == (1, 0)
        assert await shop.adapter() == whole


async def test_a_run_goes_on_while_the_store_is_away_and_commits_when_it_is_back(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1) as shop:
        await shop.until(3)
        shop.store.take()
        await shop.until_done(8)
        held = (await shop.get()).resume_state.step
        assert held < 8
        shop.store.give()
        await shop.until(held + 1)
        job = await shop.succeeded()
        assert (job.epoch, job.fault_count) == (1, 0)
        assert await shop.adapter() == whole


async def test_a_store_that_is_away_at_the_end_is_waited_for(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1) as shop:
        await shop.until(12)
        shop.store.take()
        await shop.until_done(STEPS)
        waits = "The run waits for the object store, which does not answer"

        async def waiting() -> bool:
            return waits in await shop.told()

        await eventually(waiting, 30)
        shop.store.give()
        job = await shop.succeeded()
        assert job.fault_count == 0
        assert await shop.adapter() == whole


async def test_an_adapter_that_was_still_to_be_published_is_published_by_the_next_run(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1) as shop:
        await shop.until(5)
        shop.store.take()
        await shop.until_done(10)  # that of step 8 waits for the store
        (await shop.run()).send(signal.SIGKILL)
        shop.store.give()
        job = await shop.succeeded()
        assert steps_done(shop.trace, shop.job)[2][0] > 8
        assert [checkpoint.step for checkpoint in job.checkpoints] == [8, 12]
        assert await shop.adapter() == whole


async def test_a_full_disk_is_told_and_costs_no_more_than_a_state(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, faults={"full_disk": {"saves": 3}}) as shop:
        job = await shop.succeeded()
        assert (job.epoch, job.fault_count) == (1, 0), "\n".join(await shop.told())
        told = (await shop.told()).count(
            "There is no room on the disk for the run's state; it goes on, and a fault would take "
            "it back to the state before"
        )
        assert told >= 3  # each is told; a report whose answer is lost tells again
        assert await shop.adapter() == whole


async def test_a_loss_that_is_no_number_ends_the_job_with_a_sentence(
    tmp_path: Path, snapshot: Path, forks: ForkServer
) -> None:
    async with open_shop(tmp_path, snapshot, forks, faults={"not_a_number": {"step": 5}}) as shop:
        job = await shop.ended()
        assert (job.state, job.epoch) == (TrainingJob.FAILED, 1)
        assert job.error.message == (
            "the loss is no longer a number at step 6; try a smaller learning_rate_multiplier"
        )
        assert not job.adapter
        assert set(await adapters_of(shop.house.inference, shop.job)) == {
            checkpoint.adapter for checkpoint in job.checkpoints
        }


async def test_a_step_that_memory_does_not_hold_is_done_in_parts(
    tmp_path: Path, snapshot: Path, forks: ForkServer
) -> None:
    async with open_shop(
        tmp_path, snapshot, forks, packing=False, faults={"out_of_memory": {"lines": 2}}
    ) as shop:
        await shop.succeeded()
        told = (await shop.told()).count(
            "The device's memory does not hold 2 lines at once; the step goes on with 1 at a "
            "time, which learns the same"
        )
        assert told == 1


async def test_memory_that_holds_no_line_ends_the_job_with_a_sentence(
    tmp_path: Path, snapshot: Path, forks: ForkServer
) -> None:
    async with open_shop(tmp_path, snapshot, forks, faults={"out_of_memory": {"lines": 1}}) as shop:
        job = await shop.ended()
        assert (job.state, job.epoch) == (TrainingJob.FAILED, 1)
        assert job.error.message.startswith("the device's memory does not hold one line of a step")
        assert "gradient_checkpointing" in job.error.message


async def test_a_run_that_hangs_is_killed_and_followed_by_another(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1, hang_seconds=1.5) as shop:
        await shop.until(4)
        (await shop.run()).send(signal.SIGSTOP)
        job = await shop.succeeded()
        assert (job.epoch, job.fault_count) == (2, 0)  # the second got further
        told = " ".join(await shop.told())
        assert "The run ended (no word for 1.5 seconds); it will go on from step " in told
        assert await shop.adapter() == whole


async def test_a_run_elsewhere_goes_on_from_what_was_committed(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    """As on another machine: nothing is on the disk."""
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1) as shop:
        await shop.until(6)
        run = await shop.run()
        run.send(signal.SIGSTOP)
        shutil.rmtree(tmp_path / "trainer" / "runs")
        committed = (await shop.get()).resume_state.step
        run.send(signal.SIGKILL)
        await shop.succeeded()
        assert steps_done(shop.trace, shop.job)[2][0] == committed + 1
        assert await shop.adapter() == whole


async def test_a_state_that_was_damaged_is_passed_over(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1) as shop:
        await shop.until(6)
        run = await shop.run()
        run.send(signal.SIGSTOP)
        for weights in (tmp_path / "trainer" / "runs").rglob("weights.safetensors"):
            weights.write_bytes(weights.read_bytes()[:-1])
        run.send(signal.SIGKILL)
        job = await shop.succeeded()
        assert steps_done(shop.trace, shop.job)[2][0] > 1
        assert job.epoch == 2
        assert await shop.adapter() == whole


async def test_a_cancelled_run_ends_at_once_and_publishes_nothing(
    tmp_path: Path, snapshot: Path, forks: ForkServer
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.1) as shop:
        await shop.until(3)
        await shop.house.trainer.cancel(shop.job)
        job = await shop.ended()
        assert job.state == TrainingJob.CANCELLED
        await eventually(lambda: not shop.forks.runs())
        assert not await adapters_of(shop.house.inference, shop.job)
        assert shop.last_step() < STEPS


async def follow_zombie(shop: Shop) -> list[str]:
    """Freeze a run, have another take its place, let the first go on, and tell what went wrong."""
    history = History()
    watching = asyncio.create_task(history.watch(shop.house.trainer, shop.job))
    await shop.until(3)
    zombie = await shop.run(1)
    zombie.send(signal.SIGSTOP)
    shop.forks.lose(zombie.pid)

    async def followed() -> bool:
        return (await shop.get()).resume_state.epoch == 2

    await eventually(followed, 30)
    zombie.send(signal.SIGCONT)
    await watching
    await eventually(lambda: not shop.forks.runs(), 30)
    history.see(await shop.get())
    return history.violations


async def test_a_run_that_goes_on_after_it_was_given_up_commits_nothing(
    tmp_path: Path, snapshot: Path, forks: ForkServer, whole: dict[str, str]
) -> None:
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.15) as shop:
        assert await follow_zombie(shop) == []
        job = await shop.succeeded()
        assert job.epoch == 2
        assert await shop.adapter() == whole


async def test_without_the_fence_it_would(
    tmp_path: Path, snapshot: Path, forks: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it is the fence that keeps such a run out, and this test that would see it."""
    for check in ("_check_epoch", "_check_at_work"):
        monkeypatch.setattr(run_reports, check, lambda *_: None)
    async with open_shop(tmp_path, snapshot, forks, step_seconds=0.15) as shop:
        violations = await follow_zombie(shop)
        assert any("committed after" in violation for violation in violations), violations
