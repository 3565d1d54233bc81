"""Runs, trainer, NATS and store are killed, frozen and cut off: what must still be true."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from luthier.trainer.v1.training_job_pb2 import TrainingJob

from tests.support.eventually import eventually
from tests.support.fault_campaign import (
    DONE,
    STEPS,
    Campaign,
    adapters_of,
    bytes_of,
    open_campaign,
    steps_done,
)
from tests.support.forked_runs import ForkServer
from tests.support.tiny_model import save_base

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.mark.timeout(1500)
@pytest.mark.full
@pytest.mark.parametrize(("jobs", "kills", "shake_seconds"), [(100, 200, 6.0)])
async def test_every_job_ends_once_with_the_bytes_of_a_run_that_was_left_alone(
    jobs: int, kills: int, shake_seconds: float, forks: ForkServer, snapshot: Path, tmp_path: Path
) -> None:
    async with open_campaign(tmp_path, snapshot, forks, seed=jobs) as campaign:
        alone = [await campaign.see_through(seed, 0) for seed in SEEDS]
        names = await carry_out(campaign, jobs, kills, shake_seconds)
        await eventually(lambda: not campaign.forks.runs(), 60)
        print(f"\n{len(names)} jobs, {campaign.kills} kills: {dict(campaign.done)}")
        assert campaign.history.violations == []
        for name in names:
            seed = campaign.history.jobs[name].seed
            await check(campaign, name, alone[SEEDS.index(seed)])


async def carry_out(campaign: Campaign, jobs: int, kills: int, shake_seconds: float) -> list[str]:
    """Keep a few jobs going until there were so many, and so many kills."""
    names: list[str] = []
    shaking = asyncio.create_task(campaign.shake(shake_seconds))

    async def keep_going() -> None:
        while len(names) < jobs or campaign.kills < kills:
            seed, faults = campaign.chance.choice(SEEDS), campaign.chance.randint(1, 4)
            names.append("")
            place = len(names) - 1
            names[place] = await campaign.see_through(seed, faults)

    try:
        await asyncio.gather(*(keep_going() for _ in range(4)))
    finally:
        campaign.calm.set()
        await shaking
    return names


async def check(campaign: Campaign, name: str, alone: str) -> None:
    job, reference = campaign.history.jobs[name], campaign.history.jobs[alone]
    assert job.state == TrainingJob.SUCCEEDED, (job, await campaign.process.trainer.messages(name))
    published = await adapters_of(campaign.inference, name)
    expected = await adapters_of(campaign.inference, alone)
    assert list(published) == sorted([job.adapter, *(c.adapter for c in job.checkpoints)])
    assert bytes_of(published[job.adapter]) == bytes_of(expected[reference.adapter])
    assert [c.step for c in job.checkpoints] == [c.step for c in reference.checkpoints]
    for ours, theirs in zip(job.checkpoints, reference.checkpoints, strict=True):
        assert bytes_of(published[ours.adapter]) == bytes_of(expected[theirs.adapter])
    assert job.result.metrics == reference.result.metrics
    told = await campaign.process.trainer.messages(name)
    assert told.count(DONE) == 1, told
    assert told.count("New fine-tuned model created") == 1, told
    check_steps(campaign, name)


def check_steps(campaign: Campaign, name: str) -> None:
    """Every step was done, and each interruption cost at most one."""
    done, reached = steps_done(campaign.trace, name), 0
    for epoch, steps in sorted(done.items()):
        if (name, epoch) in campaign.zombies:
            continue  # it went on beside its successor
        assert steps == list(range(steps[0], steps[-1] + 1))
        assert reached <= steps[0], done
        reached = steps[-1]
    assert reached == STEPS or (name, max(done)) in campaign.zombies
